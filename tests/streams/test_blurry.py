import pytest
import torch

from gradalign_cli.benchmarks.benchmark import all_training_rows_and_tasks
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.buffers.ring import ring
from gradalign_cli.errors import UserError
from gradalign_cli.methods.er import er
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.joint import joint
from gradalign_cli.methods.method import Method, keep_gradient
from gradalign_cli.step.draws import data_order_fingerprint, pass_orders
from gradalign_cli.streams.blurry import blurry, parts_of_rows
from gradalign_cli.training.replica import new_learner
from tests.methods.catalogue import METHODS, method
from tests.runs import make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import follow, mean_gradient


def with_blurry_stream(parts, share):
    """The parts of a run, with blurry boundaries."""
    return parts._replace(benchmark=blurry(parts.benchmark, share))


def sorted_pairs(rows, tasks):
    """All pairs of a row and its task, sorted."""
    return sorted(zip(rows.tolist(), tasks.tolist(), strict=True))


def part_counts(stream):
    """How many examples [part, task] of each task come in each part."""
    tasks = len(stream.train_rows)
    return torch.stack([part.bincount(minlength=tasks) for part in stream.train_tasks])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 2 / 3])
@pytest.mark.parametrize(
    "make_benchmark", [lambda d: split(d, 2, "task"), lambda d: permuted(d, 3)]
)
def test_every_example_of_every_task_comes_once_and_as_its_own_task(make_benchmark, share, tiny):
    sharp = make_benchmark(tiny).make_stream(3)
    stream = blurry(make_benchmark(tiny), share).make_stream(3)
    assert sorted_pairs(*all_training_rows_and_tasks(stream)) == sorted_pairs(
        *all_training_rows_and_tasks(sharp)
    )
    for rows, expected in zip(stream.test_rows, sharp.test_rows, strict=True):
        assert torch.equal(rows, expected)


def test_the_rows_of_a_task_are_dealt_to_the_parts_after_its_own():
    parts = parts_of_rows(torch.arange(100), 1, 3, 0.4, 0)
    assert parts.bincount(minlength=3).tolist() == [20, 60, 20]


@pytest.mark.parametrize("tasks", [2, 3, 7])
@pytest.mark.parametrize("share", [0.29, 0.37, 0.5])
def test_every_part_has_exactly_the_share_of_examples_of_other_tasks_dealt_evenly(
    tasks, share, tiny
):
    benchmark = blurry(permuted(tiny, tasks, samples_per_task=100), share)
    counts, moved = part_counts(benchmark.make_stream(0)), round(100 * share)
    assert counts.sum(1).tolist() == [100] * tasks
    assert counts.diagonal().tolist() == [100 - moved] * tasks
    moved_counts = counts[~torch.eye(tasks, dtype=torch.bool)]
    assert int(moved_counts.max() - moved_counts.min()) <= 1


def test_the_largest_share_makes_the_mixture_of_all_parts_the_same(tiny):
    stream = blurry(split(tiny, 2, "task", samples_per_task=30), 2 / 3).make_stream(0)
    assert part_counts(stream).tolist() == [[10] * 3] * 3


def test_which_examples_leave_is_drawn_uniformly_from_the_seed(tiny):
    benchmark = blurry(permuted(tiny, 2), 0.25)
    first, second = benchmark.make_stream(0), benchmark.make_stream(0)
    assert all(map(torch.equal, first.train_rows, second.train_rows))
    seeds = 400
    moved = torch.zeros(120)
    for seed in range(seeds):
        stream = benchmark.make_stream(seed)
        moved[stream.train_rows[1][stream.train_tasks[1] == 0]] += 1
    deviation = (0.25 * 0.75 * seeds) ** 0.5
    assert ((moved - 0.25 * seeds).abs() < 4.5 * deviation).all()


@pytest.mark.parametrize("name", METHODS)
def test_with_share_0_a_run_is_the_plain_run_bit_for_bit(name, tiny):
    sharp = make_parts(tiny, method(name), samples=10)
    blurry_parts = with_blurry_stream(sharp, 0)
    sharp_replicas, blurry_replicas = (
        make_replicas(parts, lrs=(0.01,)) for parts in (sharp, blurry_parts)
    )
    same(train(sharp, sharp_replicas), train(blurry_parts, blurry_replicas), tolerance=0)
    fingerprints = {
        data_order_fingerprint([replica.stream], [0], 2, sharp.method.shuffles_tasks_together)
        for replica in sharp_replicas + blurry_replicas
    }
    assert len(fingerprints) == 1


def test_two_methods_at_one_seed_see_one_blurry_stream_and_joint_shuffles_it(tiny):
    first, second = (
        make_replicas(with_blurry_stream(make_parts(tiny, method), 0.3))[0].stream
        for method in (er(), joint())
    )
    fingerprints = {data_order_fingerprint([stream], [0], 2, False) for stream in (first, second)}
    assert len(fingerprints) == 1
    orders = [pass_orders(second, 0, task, 1, shuffles_tasks_together=True)[0] for task in range(3)]
    rows, tasks = (torch.cat(field) for field in zip(*orders, strict=True))
    assert sorted_pairs(rows, tasks) == sorted_pairs(*all_training_rows_and_tasks(first))


def steps_of_parts(parts, count):
    """Yield (part, learner before, draw, view, learner after, trace) of the steps of the first
    `count` parts of the stream, where no task is ended."""
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    for part in range(count):
        for step in steps_of_task(parts, replica, learner, part):
            yield part, *step
            learner = step[3]


@pytest.mark.parametrize("buffer", [ring, reservoir])
def test_replay_reads_all_stored_examples_also_of_tasks_whose_part_is_to_come(buffer, tiny):
    parts = with_blurry_stream(make_parts(tiny, er(), memory_batch=None, buffer=buffer), 0.4)
    early = 0
    for part, before, draw, view, after, _ in steps_of_parts(parts, 2):
        filled = before.memory.rows >= 0
        early += int((before.memory.tasks > part).sum())
        rows = torch.cat([draw.rows, before.memory.rows[filled]])
        tasks = torch.cat([draw.tasks, before.memory.tasks[filled]])
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert early > 0


@pytest.mark.parametrize("buffer", [ring, reservoir])
def test_the_pooled_reference_is_on_the_tasks_whose_part_is_over(buffer, tiny):
    parts = make_parts(tiny, follow(None), memory_batch=None, buffer=buffer)
    parts = with_blurry_stream(parts, 0.4)
    left_out = 0
    for part, before, _, view, after, _ in steps_of_parts(parts, 2):
        earlier = (before.memory.rows >= 0) & (before.memory.tasks < part)
        left_out += int((before.memory.tasks > part).sum())
        if part:
            rows, tasks = before.memory.rows[earlier], before.memory.tasks[earlier]
            expected = mean_gradient(parts, view, before.params, rows, tasks)
            torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert left_out > 0


def test_at_the_end_of_a_part_a_method_is_given_the_examples_of_its_task_that_came_in_it(tiny):
    probed_rows = []

    def end_task(state, params, probe):
        probed_rows.append(probe.rows)
        return state

    parts = with_blurry_stream(make_parts(tiny, Method(keep_gradient, end_task=end_task)), 0.3)
    replicas = make_replicas(parts)
    train(parts, replicas)
    stream, sharp = replicas[0].stream, split(tiny, 2, "task").make_stream(0)
    assert [len(rows) for rows in probed_rows] == [28, 28, 28]
    for task, rows in enumerate(probed_rows):
        part_rows, task_rows = stream.train_rows[task].tolist(), sharp.train_rows[task].tolist()
        assert set(rows.tolist()) == set(part_rows) & set(task_rows)


@pytest.mark.parametrize("share", [-0.1, 0.7])
def test_a_share_outside_its_range_is_refused(share, tiny):
    with pytest.raises(
        UserError, match=rf"`stream.share` must be in \[0, 1 - 1 / 3\], found {share}"
    ):
        with_blurry_stream(make_parts(tiny, finetune()), share)
