"""A run that is interrupted and resumed ends as one that was not, bit for bit."""

import json
import zlib

import numpy as np
import pytest
import torch

from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.engines import recorded
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.results.run_folder import RunFolder
from gradalign_cli.schedules.plateau import plateau
from gradalign_cli.streams.blurry import blurry
from gradalign_cli.streams.task_free import task_free
from gradalign_cli.training.checkpoints import Checkpoints, newest_saved_run
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica_groups import train_replica_groups
from gradalign_cli.training.runaway import RunawayWarner
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, noisy, normalised
from tests.schedules.test_plateau import with_schedule

PLAN = TrainingPlan(1, 5, 2, 3)  # the first three steps of a task are chunks of their own
EVERY_CHUNK = 1e-9  # minutes between two checkpoints


class Interrupted(BaseException):
    """What ends a run in its midst."""


class Interrupter:
    """A watcher that interrupts training after so many chunks, and has no state."""

    def __init__(self, chunks):
        self.chunks = chunks

    def after_steps(self, moment):
        self.chunks -= 1
        if self.chunks == 0:
            raise Interrupted
        return False

    def after_test(self, ended_tasks, accuracy):
        pass

    def begin_replica_group(self, replicas):
        pass

    def end_replica_group(self, problem):
        pass

    def state(self):
        return {}

    def restore(self, state):
        pass


def train_on(folder, parts, replicas, engine, plan, todo, chunks):
    """Train from the newest checkpoint of the folder on, to an interruption or the end; the outcome
    and what the watchers counted."""
    saved = newest_saved_run(folder)
    run_folder = RunFolder(folder, resumes=saved is not None)
    runaways = RunawayWarner(2, lambda runaway: None)
    watchers = [run_folder, runaways, Interrupter(chunks)]
    checkpoints = Checkpoints(folder, EVERY_CHUNK, dict)
    try:
        outcome = train_replica_groups(
            parts, replicas, engine, plan, watchers, todo, checkpoints, saved
        )
        return outcome, run_folder.constraint_counts(), runaways.record()
    finally:
        run_folder.release()


def bits(tree):
    """A tree of tensors, arrays and numbers as text that tells every bit."""
    if isinstance(tree, torch.Tensor):
        return [str(tree.dtype), list(tree.shape), zlib.crc32(tree.contiguous().numpy().tobytes())]
    if isinstance(tree, np.ndarray):
        return bits(torch.from_numpy(tree))
    if isinstance(tree, tuple | list):
        return [bits(part) for part in tree]
    return str(tree)


def assert_resumed_equals_uninterrupted(
    tmp_path, parts, replicas, engine=eager, plan=PLAN, todo=None, stops=(6, 4)
):
    """Train without an interruption, and with some after so many chunks, and compare all bits."""
    todo = todo or [list(range(len(replicas)))]
    results = []
    for name, ends in (("whole", ()), ("parts", stops)):
        for chunks in (*ends, 0):
            try:
                result = train_on(tmp_path / name, parts, replicas, engine(), plan, todo, chunks)
            except Interrupted:
                assert chunks
            else:
                assert not chunks
        results.append(result)
    (whole, *whole_counts), (resumed, *resumed_counts) = results
    untimed = {"training_seconds": 0, "evaluation_seconds": 0}
    for name, expected in whole._replace(**untimed)._asdict().items():
        assert bits(getattr(resumed._replace(**untimed), name)) == bits(expected), name
    assert resumed_counts == whole_counts
    files = [(tmp_path / name / "alignment.csv").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", METHODS)
def test_a_run_with_every_method_goes_on_bit_for_bit(name, tiny, tmp_path):
    parts = make_parts(tiny, method(name), samples=15)
    replicas = make_replicas(parts, lrs=(0.05,))
    assert_resumed_equals_uninterrupted(tmp_path, parts, replicas)


@pytest.mark.parametrize("name", BUFFERS)
def test_a_run_with_every_buffer_goes_on_bit_for_bit(name, tiny, tmp_path):
    parts = make_parts(tiny, method("derpp"), samples=15, buffer=buffer_factory(name))
    assert_resumed_equals_uninterrupted(tmp_path, parts, make_replicas(parts, lrs=(0.05,)))


@pytest.mark.parametrize("engine", [eager, graph, vmap, streams])
def test_replicas_on_every_engine_go_on_and_are_recorded_at_the_same_step(
    engine, tiny, tmp_path, monkeypatch
):
    places = []

    def log_place(step, learner, draw, view):
        places.append(zlib.crc32(draw.rows.numpy().tobytes()))
        return step

    monkeypatch.setattr(recorded, "MIN_CALLS_TO_RECORD", 7)
    monkeypatch.setattr(recorded, "record_operations", log_place)
    parts = make_parts(tiny, method("agem"), samples=38)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    assert_resumed_equals_uninterrupted(
        tmp_path, parts, replicas, engine, TrainingPlan(2, 5, 2, 9), stops=(5, 14)
    )
    assert bool(places) == (engine is not eager)


def test_skipped_steps_count_towards_a_recording():
    steps = [object(), object()]
    draws = type("Draws", (), {"rows": torch.zeros(150, 1, 5)})
    run = recorded.RecordedRun(lambda *arguments: None)
    run.note_steps_before_resume(steps, draws)
    after_first = run.chosen_steps(steps, draws)
    whole = recorded.RecordedRun(lambda *arguments: None)
    twice = type("Draws", (), {"rows": torch.zeros(300, 1, 5)})
    plain = [step in steps for step in whole.chosen_steps(steps, twice)]
    assert plain == [True] * 198 + [False] * 102
    assert [step in steps for step in after_first] == plain[150:]


@pytest.mark.parametrize("kind", ["blurry", "task_free", "class"])
def test_a_run_on_every_stream_goes_on_bit_for_bit(kind, tiny, tmp_path):
    parts = make_parts(tiny, method("er"), samples=15, buffer=reservoir, scenario="class")
    if kind != "class":
        stream = blurry(parts.benchmark, 0.3) if kind == "blurry" else task_free(parts.benchmark, 1)
        parts = parts._replace(benchmark=stream)
    assert_resumed_equals_uninterrupted(tmp_path, parts, make_replicas(parts))


@pytest.mark.parametrize("network", [noisy, normalised])
def test_dropout_batchnorm_momentum_and_tests_between_steps_go_on(network, tiny, tmp_path):
    parts = make_parts(tiny, method("gem"), samples=15, model=network)
    parts = parts._replace(optimizer=sgd(0.9, 0.01))
    plan = TrainingPlan(2, 5, 1, 2, 3, 10)
    assert_resumed_equals_uninterrupted(tmp_path, parts, make_replicas(parts), plan=plan)


def test_a_schedule_goes_on_with_its_verdict_and_its_best_pass(tiny, tmp_path):
    parts = make_parts(tiny, method("ewc"), samples=15)
    parts, replicas = with_schedule(parts, make_replicas(parts), plateau(0.2, 1, 2.0, 0.04))
    for stops in ((2, 3), (5, 6)):
        path = tmp_path / str(stops[0])
        path.mkdir()
        plan = TrainingPlan(4, 5, 1, 0)
        assert_resumed_equals_uninterrupted(path, parts, replicas, plan=plan, stops=stops)


def test_groups_of_replicas_go_on_in_the_right_group(tiny, tmp_path):
    parts = make_parts(tiny, method("gpm"), samples=15)
    replicas = make_replicas(parts, seeds=(0, 1, 2))
    assert_resumed_equals_uninterrupted(
        tmp_path, parts, replicas, todo=[[2, 0], [1]], stops=(5, 9, 4)
    )


def interrupted(tiny, folder, chunks=6, name="agem"):
    """The parts and replicas of a run that was interrupted in this folder."""
    parts = make_parts(tiny, method(name), samples=15)
    replicas = make_replicas(parts)
    with pytest.raises(Interrupted):
        train_on(folder, parts, replicas, eager(), PLAN, [[0]], chunks)
    return parts, replicas


def test_where_the_last_checkpoint_is_damaged_the_one_before_is_taken(tiny, tmp_path):
    parts, replicas = interrupted(tiny, tmp_path / "damaged")
    older, newest = sorted((tmp_path / "damaged").glob("checkpoint.*"))
    whole = train_on(tmp_path / "whole", parts, replicas, eager(), PLAN, [[0]], 0)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=r"checkpoint\.\d+\.safetensors is damaged and is left"):
        resumed = train_on(tmp_path / "damaged", parts, replicas, eager(), PLAN, [[0]], 0)
    assert older.name < newest.name
    assert bits(resumed[0].learners) == bits(whole[0].learners)
    files = [(tmp_path / name / "alignment.csv").read_bytes() for name in ("damaged", "whole")]
    assert files[0] == files[1]


@pytest.mark.parametrize("damage", ["truncate", "change"])
def test_a_damaged_alignment_file_is_told_from_a_longer_one(damage, tiny, tmp_path):
    parts, replicas = interrupted(tiny, tmp_path)
    path = tmp_path / "alignment.csv"
    text = path.read_text()
    path.write_text(text[:-20] if damage == "truncate" else text.replace("0", "1", 1))
    with pytest.raises(UserError, match=r"alignment\.csv is damaged; .*starts the run anew"):
        train_on(tmp_path, parts, replicas, eager(), PLAN, [[0]], 0)


def test_on_a_full_disk_training_goes_on_and_the_last_checkpoint_stays(tiny, tmp_path, monkeypatch):
    parts, replicas = interrupted(tiny, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradalign_cli.files.checkpoint_files.save", full_disk)
    with pytest.warns(UserWarning, match="No space left on device; training goes on, and the last"):
        train_on(tmp_path, parts, replicas, eager(), PLAN, [[0]], 0)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in names if name not in left] == []


def test_checkpoints_hold_plain_json_and_tensors_alone_and_two_are_kept(tiny, tmp_path):
    interrupted(tiny, tmp_path)
    paths = sorted(tmp_path.glob("checkpoint.*"))
    assert len(paths) == 2
    for path in paths:
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert json.loads(header["__metadata__"]["text"])["state"]["fields"]["position"]


def test_a_checkpoint_of_other_parts_is_refused_in_a_sentence(tiny, tmp_path):
    interrupted(tiny, tmp_path, name="ewc")
    parts = make_parts(tiny, method("agem"), samples=15)
    with pytest.raises(UserError, match="was written by other parts than this run has"):
        train_on(tmp_path, parts, make_replicas(parts), eager(), PLAN, [[0]], 0)


def test_within_a_task_checkpoints_are_minutes_apart_and_each_task_ends_with_one(tmp_path):
    now = [0.0]
    checkpoints = Checkpoints(tmp_path, 2.0, dict, lambda: now[0])
    written = []
    for seconds, task_has_ended in ((60, False), (130, False), (140, False), (141, True)):
        now[0] = seconds
        checkpoints.save(task_has_ended, lambda: written.append(now[0]))
    assert written == [130, 141]
    Checkpoints(tmp_path, None, dict).save(True, lambda: written.append("never"))
    assert written == [130, 141]
