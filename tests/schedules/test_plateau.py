"""The rule by hand, and that a task ends exactly as if it had stopped after its best pass."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.benchmarks.options import hold_out
from gradalign_cli.commands import train as training
from gradalign_cli.composition.compose import composed
from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import one_after_other
from gradalign_cli.engines.eager import eager
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.schedules.plateau import plateau
from gradalign_cli.schedules.schedule import Schedule, Verdict
from gradalign_cli.step.draws import fingerprint
from gradalign_cli.training.evaluation import Evaluator
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.rounds import replicas_at_once
from tests.methods.catalogue import method
from tests.runs import compare, make_parts, make_replicas, train


def told(schedule, lr, losses):
    """(lr of the next pass, over, best) after each loss."""
    verdict, found = schedule.begin(lr), []
    for loss in losses:
        verdict = schedule.judge(verdict, loss)
        found.append((verdict.lr, verdict.task_over, verdict.best_so_far))
    return found


def test_the_rule_is_the_papers_by_hand():
    schedule = plateau(0.1, 2, 2.0, 0.3)
    assert schedule.begin(1.0)[:3] == (1.0, False, False)
    assert told(schedule, 1.0, [5, 4, 6, 4, 3, 7, 8, 9, 9]) == [
        (1.0, False, True),
        (1.0, False, True),
        (1.0, False, False),  # one worse
        (0.5, False, False),  # an equal loss is no lower one: two
        (0.5, False, True),  # patience anew
        (0.5, False, False),
        (0.25, True, False),
        (0.25, False, False),
        (0.125, True, False),
    ]


def test_patience_begins_anew_with_every_smaller_step():
    found = told(plateau(0.1, 3, 10.0, 1e-5), 0.01, [1.0] + [2.0] * 12)
    assert [n for n, (_, over, _) in enumerate(found) if over] == [12]
    steps = [lr for lr, _, _ in found]
    assert steps == pytest.approx([0.01] * 3 + [1e-3] * 3 + [1e-4] * 3 + [1e-5] * 3 + [1e-6])


def test_a_loss_that_is_no_number_is_never_the_best():
    assert not any(best for _, _, best in told(plateau(0.1, 9, 2.0, 0.1), 1.0, [float("nan")] * 3))


def script(verdicts):
    """A schedule that says for each pass (lr of the next, over, best), whatever the loss."""
    return Schedule(
        0.2,
        lambda lr: Verdict(lr, False, False, 0),
        lambda verdict, loss: Verdict(*verdicts[verdict.state], verdict.state + 1),
    )


def held_out(parts, replicas, schedule):
    """Parts and replicas with a schedule."""
    streams = [hold_out(r.stream, schedule.held_out, r.seed) for r in replicas]
    kept = [r._replace(stream=s) for r, s in zip(replicas, streams, strict=True)]
    return parts._replace(schedule=schedule), kept


@pytest.mark.parametrize("name", ["finetune", "agem", "trgp", "si"])
def test_a_task_ends_as_if_it_had_stopped_after_its_best_pass(name, tiny):
    """Parameters, and the states of method and memory: everything goes back."""
    parts = make_parts(tiny, method(name))
    best_second = script([(0.1, False, True), (0.05, False, True), (0.05, True, False)])
    stopped, replicas = held_out(parts, make_replicas(parts), best_second)
    found = train(stopped, replicas, plan=Plan(9, 5, 1, 0))
    compare(found.learners, train(parts, replicas, plan=Plan(2, 5, 1, 0)).learners, 0)
    steps_a_pass = -(-32 // 5)
    assert found.steps == 3 * 3 * steps_a_pass  # three passes were made


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_the_step_size_falls_between_passes_and_is_whole_again_in_the_next_task(chunk, tiny):
    parts = make_parts(tiny, method("finetune"))
    verdicts = [(0.1, False, True), (0.02, False, True), (0.01, False, True), (0.01, True, False)]
    seen = []

    def run(cycle, learners, draws, views):
        seen.extend(draws.lr[:, 0].tolist())
        return eager().run(cycle, learners, draws, views)

    stopped, replicas = held_out(parts, make_replicas(parts), script(verdicts))
    train(stopped, replicas, eager()._replace(run=run), plan=Plan(9, 5, chunk, 0))
    sizes = [0.1] * 14 + [0.02] * 7 + [0.01] * 7
    assert seen == pytest.approx(sizes * 3)


def test_a_recorded_step_does_not_write_over_the_best_learner(tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.WORTH", 2)

    def replayed(function):
        function()
        return function

    parts = make_parts(tiny, method("agem"))
    verdicts = [(0.1, False, True), (0.1, False, False), (0.1, True, False)]
    stopped, replicas = held_out(parts, make_replicas(parts), script(verdicts))
    engine = eager()._replace(run=captured(one_after_other, replayed))
    # passes end with a full batch, which is a recorded one
    found = train(stopped, replicas, engine, plan=Plan(9, 4, 1, 0))
    compare(found.learners, train(parts, replicas, plan=Plan(1, 4, 1, 0)).learners, 1e-6)


def test_where_no_pass_is_the_best_the_task_leaves_no_trace(tiny):
    parts = make_parts(tiny, method("finetune"))
    stopped, replicas = held_out(parts, make_replicas(parts), script([(0.1, True, False)]))
    found = train(stopped, replicas, plan=Plan(3, 5, 1, 0))
    start = parts.model.init(torch.Generator().manual_seed(0))
    assert found.learners.params.shape[1:] == start.shape
    assert (found.accuracy[0] == found.accuracy[0, 0]).all()


def test_a_network_that_stands_still_is_left_after_the_patience_of_every_step_size(tiny):
    parts = make_parts(tiny, method("finetune"))
    schedule = plateau(0.2, 2, 10.0, 5e-14)
    stopped, replicas = held_out(parts, make_replicas(parts, lrs=(1e-12,)), schedule)
    found = train(stopped, replicas, plan=Plan(30, 5, 1, 0))
    assert found.steps == 3 * (1 + 2 + 2) * 7  # the first pass is the best, then 1e-12 and 1e-13


def test_what_is_held_out_is_of_the_task_and_drawn_by_the_seed(tiny):
    stream = make_parts(tiny, method("finetune")).benchmark.make_stream(0)
    found, again, other = (hold_out(stream, 0.3, seed) for seed in (4, 4, 5))
    for task, rows in enumerate(stream.train_rows):
        both = torch.cat([found.held_out_rows[task], found.train_rows[task]])
        assert torch.equal(both.sort().values, rows.sort().values)
        assert len(found.held_out_rows[task]) == round(0.3 * len(rows)) == 12
        assert torch.equal(found.held_out_rows[task], again.held_out_rows[task])
        assert not torch.equal(
            found.held_out_rows[task].sort().values, other.held_out_rows[task].sort().values
        )
    assert found.test_rows == stream.test_rows


def test_tasks_of_the_same_examples_hold_out_others(tiny):
    stream = make_parts(tiny, method("finetune"), kind="permuted").benchmark.make_stream(0)
    held = [rows.sort().values for rows in hold_out(stream, 0.3, 0).held_out_rows]
    assert not torch.equal(held[0], held[1])


def test_a_task_of_one_example_has_none_to_hold_out(tiny):
    stream = make_parts(tiny, method("finetune"), samples=1).benchmark.make_stream(0)
    with pytest.raises(UserError, match=r"`schedule.held_out` leaves nothing of the 1 examples"):
        hold_out(stream, 0.1, 0)


def test_no_step_meets_a_held_out_example(tiny):
    parts = make_parts(tiny, method("er"))
    stopped, replicas = held_out(parts, make_replicas(parts), plateau(0.2, 2, 2.0, 1e-3))
    met = []

    def run(cycle, learners, draws, views):
        met.append(draws.rows.flatten())
        return eager().run(cycle, learners, draws, views)

    found = train(stopped, replicas, eager()._replace(run=run), plan=Plan(3, 5, 1, 0))
    held = torch.cat(replicas[0].stream.held_out_rows)
    assert not torch.isin(torch.cat(met), held).any()
    assert not torch.isin(found.learners.memory.rows, held).any()


def test_the_held_out_loss_is_the_cross_entropy_of_the_tasks_own_logits(tiny):
    parts = make_parts(tiny, method("finetune"))
    stopped, replicas = held_out(parts, make_replicas(parts), plateau(0.2, 2, 2.0, 1e-3))
    learner = tree_index(train(stopped, replicas, plan=Plan(1, 5, 1, 0)).learners, 0)
    rows = replicas[0].stream.held_out_rows[1]
    x = torch.from_numpy(tiny.x)[rows].float() / 255
    logits = parts.model.apply(learner.params, learner.statistics, x, False).logits[:, 2:4]
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(tiny.y)[rows] - 2)
    views = tree_stack([replicas[0].stream.view])
    found = Evaluator(stopped, replicas, eager()).held_out_loss(tree_stack([learner]), views, 1)
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_what_is_held_out_is_in_the_fingerprint_and_nothing_else_has_changed(tiny):
    stream = make_parts(tiny, method("finetune")).benchmark.make_stream(0)
    split_off = hold_out(stream, 0.2, 0)
    marks = [fingerprint([s], [0], 2, False) for s in (stream, split_off)]
    marks.append(fingerprint([split_off._replace(held_out_rows=())], [0], 2, False))
    assert len(set(marks)) == 3


def finished(folder, *overrides):
    """The accuracies by replica, the record and the rows of alignment.csv of a run on digits."""
    small = ["benchmark.first_tasks=2", "benchmark.samples_per_task=60", "metrics.lca_batches=0"]
    small += ["passes=12", "alignment.every=1", "schedule=plateau", "schedule.held_out=0.2"]
    small += ["schedule.patience=1", "schedule.factor=10", "schedule.least=0.05"]
    config = OmegaConf.create(composed(CONF, [*small, *overrides])[0])
    training.train(config, folder, Console(quiet=True))
    rows = [line.split(",", 1) for line in (folder / "accuracy.csv").read_text().splitlines()[1:]]
    accuracy = [[rest for number, rest in rows if number == r] for r in ("0", "1")]
    lines = (folder / "alignment.csv").read_text().count("\n") - 1
    return accuracy, json.loads((folder / "record.json").read_text()), lines


def test_each_replica_of_a_run_ends_its_tasks_on_its_own(tmp_path):
    both, record, lines = finished(tmp_path / "both", "replicas.seed=[0,3]")
    steps = []
    for place, seed in enumerate((0, 3)):
        alone, own, _ = finished(tmp_path / str(seed), f"replicas.seed=[{seed}]")
        assert alone[0] == both[place]
        steps.append(own["steps"])
    assert record["steps"] == sum(steps) == lines
    assert steps[0] != steps[1]
    assert max(steps) < 2 * 12 * 5


def test_replicas_with_a_schedule_are_not_trained_together(tiny):
    parts = make_parts(tiny, method("finetune"))
    stopped, (replica,) = held_out(parts, make_replicas(parts), plateau(0.2, 2, 2.0, 1e-3))
    at_once = [replicas_at_once(p, replica, None, torch.device("cpu")) for p in (parts, stopped)]
    assert at_once[0] > at_once[1] == 1
