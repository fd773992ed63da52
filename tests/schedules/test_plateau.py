"""The rule by hand, and that a task ends exactly as if it had stopped after its best pass."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.benchmarks.options import with_held_out_rows
from gradalign_cli.commands import train as training
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines.captured import make_captured_run
from gradalign_cli.engines.carry import step_replicas_in_loop
from gradalign_cli.engines.eager import eager
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.schedules.plateau import plateau
from gradalign_cli.schedules.schedule import Schedule, Verdict
from gradalign_cli.step.draws import data_order_fingerprint
from gradalign_cli.streams.blurry import blurry
from gradalign_cli.training.evaluation import Evaluator
from gradalign_cli.training.memory_estimate import replicas_at_once
from gradalign_cli.training.plan import TrainingPlan
from tests.methods.catalogue import method
from tests.runs import compare, make_parts, make_replicas, same, train


def verdicts_after(schedule, lr, losses):
    """(lr of the next pass, task_over, has_lowest_loss) after each loss."""
    verdict, verdicts = schedule.begin_task(lr), []
    for loss in losses:
        verdict = schedule.judge_pass(verdict, loss)
        verdicts.append((verdict.lr, verdict.task_over, verdict.has_lowest_loss))
    return verdicts


def test_the_rule_is_the_papers_by_hand():
    schedule = plateau(0.1, 2, 2.0, 0.3)
    assert schedule.begin_task(1.0)[:3] == (1.0, False, False)
    assert verdicts_after(schedule, 1.0, [5, 4, 6, 4, 3, 7, 8, 9, 9]) == [
        (1.0, False, True),
        (1.0, False, True),
        (1.0, False, False),  # the first pass that is no better
        (0.5, False, False),  # an equal loss is no lower one, so this is the second
        (0.5, False, True),  # patience begins anew
        (0.5, False, False),
        (0.25, True, False),
        (0.25, False, False),
        (0.125, True, False),
    ]


def test_patience_begins_anew_with_every_smaller_step():
    verdicts = verdicts_after(plateau(0.1, 3, 10.0, 1e-5), 0.01, [1.0] + [2.0] * 12)
    assert [n for n, (_, task_over, _) in enumerate(verdicts) if task_over] == [12]
    lrs = [lr for lr, _, _ in verdicts]
    assert lrs == pytest.approx([0.01] * 3 + [1e-3] * 3 + [1e-4] * 3 + [1e-5] * 3 + [1e-6])


def test_a_loss_that_is_no_number_is_never_the_best():
    verdicts = verdicts_after(plateau(0.1, 9, 2.0, 0.1), 1.0, [float("nan")] * 3)
    assert not any(has_lowest_loss for _, _, has_lowest_loss in verdicts)


def scripted_schedule(verdicts):
    """A schedule that gives a listed verdict (lr of the next pass, task_over, has_lowest_loss)
    after each pass, whatever the loss."""
    return Schedule(
        0.2,
        lambda lr: Verdict(lr, False, False, 0),
        lambda verdict, loss: Verdict(*verdicts[verdict.state], verdict.state + 1),
    )


def with_schedule(parts, replicas, schedule):
    """Parts and replicas with a schedule."""
    share = schedule.held_out_share
    replicas = [r._replace(stream=with_held_out_rows(r.stream, share, r.seed)) for r in replicas]
    return parts._replace(schedule=schedule), replicas


@pytest.mark.parametrize("name", ["finetune", "agem", "trgp", "si"])
def test_a_task_ends_as_if_it_had_stopped_after_its_best_pass(name, tiny):
    """Parameters, and the states of method and memory: everything goes back."""
    plain = make_parts(tiny, method(name))
    second_pass_best = scripted_schedule(
        [(0.1, False, True), (0.05, False, True), (0.05, True, False)]
    )
    parts, replicas = with_schedule(plain, make_replicas(plain), second_pass_best)
    outcome = train(parts, replicas, plan=TrainingPlan(9, 5, 1, 0))
    compare(outcome.learners, train(plain, replicas, plan=TrainingPlan(2, 5, 1, 0)).learners, 0)
    steps_a_pass = -(-32 // 5)
    assert outcome.steps == 3 * 3 * steps_a_pass  # three passes over each of three tasks


def recording_engine(field):
    """The eager engine, and a list to which it adds a field of each chunk's draws."""
    recorded = []

    def run_steps(cycle, learners, draws, views):
        recorded.append(getattr(draws, field))
        return eager().run_steps(cycle, learners, draws, views)

    return eager()._replace(run_steps=run_steps), recorded


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_the_step_size_falls_between_passes_and_is_reset_in_the_next_task(chunk, tiny):
    parts = make_parts(tiny, method("finetune"))
    verdicts = [(0.1, False, True), (0.02, False, True), (0.01, False, True), (0.01, True, False)]
    engine, lrs = recording_engine("lr")
    parts, replicas = with_schedule(parts, make_replicas(parts), scripted_schedule(verdicts))
    train(parts, replicas, engine, plan=TrainingPlan(9, 5, chunk, 0))
    expected = [0.1] * 14 + [0.02] * 7 + [0.01] * 7
    assert torch.cat(lrs)[:, 0].tolist() == pytest.approx(expected * 3)


def test_a_captured_step_does_not_write_over_the_best_learner(tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.MIN_CAPTURED_CHUNK_STEPS", 2)

    def call_once(function):
        function()
        return function

    plain = make_parts(tiny, method("agem"))
    verdicts = [(0.1, False, True), (0.1, False, False), (0.1, True, False)]
    parts, replicas = with_schedule(plain, make_replicas(plain), scripted_schedule(verdicts))
    engine = eager()._replace(run_steps=make_captured_run(step_replicas_in_loop, call_once))
    # passes end with a full batch, which is a captured one
    outcome = train(parts, replicas, engine, plan=TrainingPlan(9, 4, 1, 0))
    compare(outcome.learners, train(plain, replicas, plan=TrainingPlan(1, 4, 1, 0)).learners, 1e-6)


def test_where_no_pass_is_the_best_the_task_leaves_no_trace(tiny):
    parts = make_parts(tiny, method("finetune"))
    schedule = scripted_schedule([(0.1, True, False)])
    parts, replicas = with_schedule(parts, make_replicas(parts), schedule)
    outcome = train(parts, replicas, plan=TrainingPlan(3, 5, 1, 0))
    initial_params = parts.model.init(torch.Generator().manual_seed(0))
    assert outcome.learners.params.shape[1:] == initial_params.shape
    assert (outcome.accuracy[0] == outcome.accuracy[0, 0]).all()


def test_a_network_that_stands_still_is_left_after_the_patience_of_every_step_size(tiny):
    parts = make_parts(tiny, method("finetune"))
    schedule = plateau(0.2, 2, 10.0, 5e-14)
    parts, replicas = with_schedule(parts, make_replicas(parts, lrs=(1e-12,)), schedule)
    outcome = train(parts, replicas, plan=TrainingPlan(30, 5, 1, 0))
    assert outcome.steps == 3 * (1 + 2 + 2) * 7  # the first pass is the best, then 1e-12 and 1e-13


def test_held_out_examples_are_of_the_task_and_drawn_from_the_seed(tiny):
    stream = make_parts(tiny, method("finetune")).benchmark.make_stream(0)
    first, repeated, other_seed = (with_held_out_rows(stream, 0.3, seed) for seed in (4, 4, 5))
    for task, rows in enumerate(stream.train_rows):
        held_out_rows = first.held_out_rows[task]
        union = torch.cat([held_out_rows, first.train_rows[task]])
        assert torch.equal(union.sort().values, rows.sort().values)
        assert len(held_out_rows) == round(0.3 * len(rows)) == 12
        assert torch.equal(held_out_rows, repeated.held_out_rows[task])
        assert set(held_out_rows.tolist()) != set(other_seed.held_out_rows[task].tolist())
    assert first.test_rows == stream.test_rows


def test_two_tasks_with_the_same_examples_hold_out_different_ones(tiny):
    stream = make_parts(tiny, method("finetune"), kind="permuted").benchmark.make_stream(0)
    held_out_rows = [
        rows.sort().values for rows in with_held_out_rows(stream, 0.3, 0).held_out_rows
    ]
    assert not torch.equal(held_out_rows[0], held_out_rows[1])


def test_a_task_of_one_example_has_none_to_hold_out(tiny):
    stream = make_parts(tiny, method("finetune"), samples=1).benchmark.make_stream(0)
    with pytest.raises(
        UserError, match=r"`schedule.held_out_share` leaves nothing of the 1 examples"
    ):
        with_held_out_rows(stream, 0.1, 0)


def test_no_step_trains_on_or_stores_a_held_out_example(tiny):
    parts = make_parts(tiny, method("er"))
    parts, replicas = with_schedule(parts, make_replicas(parts), plateau(0.2, 2, 2.0, 1e-3))
    engine, trained_rows = recording_engine("rows")
    outcome = train(parts, replicas, engine, plan=TrainingPlan(3, 5, 1, 0))
    held_out_rows = torch.cat(replicas[0].stream.held_out_rows)
    trained_rows = torch.cat([rows.flatten() for rows in trained_rows])
    assert not torch.isin(trained_rows, held_out_rows).any()
    assert not torch.isin(outcome.learners.memory.rows, held_out_rows).any()


def test_the_held_out_loss_is_the_cross_entropy_of_the_tasks_own_logits(tiny):
    parts = make_parts(tiny, method("finetune"))
    parts, replicas = with_schedule(parts, make_replicas(parts), plateau(0.2, 2, 2.0, 1e-3))
    learner = tree_index(train(parts, replicas, plan=TrainingPlan(1, 5, 1, 0)).learners, 0)
    rows = replicas[0].stream.held_out_rows[1]
    images = torch.from_numpy(tiny.images)[rows].float() / 255
    logits = parts.model.apply(learner.params, learner.statistics, images, False).logits[:, 2:4]
    target = torch.from_numpy(tiny.labels)[rows] - 2
    expected = torch.nn.functional.cross_entropy(logits, target)
    views = tree_stack([replicas[0].stream.view])
    loss = Evaluator(parts, replicas, eager()).held_out_loss(tree_stack([learner]), views, 1)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_the_fingerprint_includes_the_held_out_rows(tiny):
    stream = make_parts(tiny, method("finetune")).benchmark.make_stream(0)
    with_held_out = with_held_out_rows(stream, 0.2, 0)
    streams = (stream, with_held_out, with_held_out._replace(held_out_rows=()))
    assert len({data_order_fingerprint([s], [0], 2, False) for s in streams}) == 3


def run_digits(folder, *overrides):
    """The accuracies of replicas 0 and 1, the record and the number of rows of alignment.csv of a
    run on digits."""
    settings = ["benchmark.first_tasks=2", "benchmark.samples_per_task=60", "metrics.lca_batches=0"]
    settings += [
        "passes=12",
        "alignment.every=1",
        "schedule=plateau",
        "schedule.held_out_share=0.2",
    ]
    settings += ["schedule.patience=1", "schedule.factor=10", "schedule.least_lr=0.05"]
    config = OmegaConf.create(compose_config(CONF, [*settings, *overrides]).settings)
    training.train(config, folder, Console(quiet=True))
    lines = (folder / "accuracy.csv").read_text().splitlines()[1:]
    rows = [line.split(",", 1) for line in lines]
    accuracies = [[values for number, values in rows if number == r] for r in ("0", "1")]
    alignment_rows = (folder / "alignment.csv").read_text().count("\n") - 1
    return accuracies, json.loads((folder / "record.json").read_text()), alignment_rows


def test_each_replica_of_a_run_ends_its_tasks_independently(tmp_path):
    accuracies, record, alignment_rows = run_digits(tmp_path / "two", "replicas.seed=[0,3]")
    steps = []
    for number, seed in enumerate((0, 3)):
        expected, single_record, _ = run_digits(tmp_path / str(seed), f"replicas.seed=[{seed}]")
        assert expected[0] == accuracies[number]
        steps.append(single_record["steps"])
    assert record["steps"] == sum(steps) == alignment_rows
    assert steps[0] != steps[1]
    assert max(steps) < 2 * 12 * 5


def test_replicas_with_a_schedule_are_not_trained_together(tiny):
    plain = make_parts(tiny, method("finetune"))
    parts, (replica,) = with_schedule(plain, make_replicas(plain), plateau(0.2, 2, 2.0, 1e-3))
    without_schedule, with_one = (
        replicas_at_once(p, replica, None, torch.device("cpu")) for p in (plain, parts)
    )
    assert without_schedule > with_one == 1


def test_a_blurry_stream_with_nothing_to_share_has_a_schedule_like_a_sharp_one(tiny):
    parts = make_parts(tiny, method("agem"))
    unshared = parts._replace(benchmark=blurry(parts.benchmark, 0.0))
    outcomes = []
    for each in (parts, unshared):
        stopped, replicas = with_schedule(each, make_replicas(each), plateau(0.2, 1, 2.0, 0.04))
        outcomes.append(train(stopped, replicas, plan=TrainingPlan(4, 5, 1, 0)))
    same(*outcomes, tolerance=0)
