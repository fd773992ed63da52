import pytest
import torch

from gradalign_cli.benchmarks.benchmark import whole_stream
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.buffers.ring import ring
from gradalign_cli.errors import UserError
from gradalign_cli.methods.er import er
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.joint import joint
from gradalign_cli.methods.method import Method, keep_gradient
from gradalign_cli.step.draws import fingerprint, pass_orders
from gradalign_cli.streams.blurry import blurry
from gradalign_cli.training.replica import new_learner
from tests.methods.catalogue import METHODS, method
from tests.runs import make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import follow, mean_gradient


def blurred(parts, share):
    return parts._replace(benchmark=blurry(parts.benchmark, share))


def pairs(rows, owner):
    return sorted(zip(rows.tolist(), owner.tolist(), strict=True))


def foreign(stream):
    """How many examples [part, task] of each task come in each part."""
    return torch.stack([owner.bincount(minlength=len(stream.train_rows)) for owner in stream.owner])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 2 / 3])
@pytest.mark.parametrize("make", [lambda d: split(d, 2, "task"), lambda d: permuted(d, 3)])
def test_every_example_of_every_task_comes_once_and_as_its_own_task(make, share, tiny):
    sharp, found = make(tiny).stream(3), blurry(make(tiny), share).make_stream(3)
    assert pairs(*whole_stream(found)) == pairs(*whole_stream(sharp))
    assert all(torch.equal(a, b) for a, b in zip(found.test_rows, sharp.test, strict=True))


@pytest.mark.parametrize("tasks", [2, 3, 7])
@pytest.mark.parametrize("share", [0.29, 0.37, 0.5])
def test_every_part_has_exactly_the_share_of_others_examples_dealt_evenly(tasks, share, tiny):
    benchmark = blurry(permuted(tiny, tasks, samples_per_task=100), share)
    counts, away = foreign(benchmark.make_stream(0)), round(100 * share)
    assert counts.sum(1).tolist() == [100] * tasks
    assert counts.diagonal().tolist() == [100 - away] * tasks
    others = counts[~torch.eye(tasks, dtype=torch.bool)]
    assert int(others.max() - others.min()) <= 1


def test_the_largest_share_makes_all_parts_alike(tiny):
    stream = blurry(split(tiny, 2, "task", samples_per_task=30), 2 / 3).make_stream(0)
    assert foreign(stream).tolist() == [[10] * 3] * 3


def test_which_examples_leave_is_drawn_uniformly_from_the_seed(tiny):
    benchmark = blurry(permuted(tiny, 2), 0.25)
    again, one = benchmark.make_stream(0), benchmark.make_stream(0)
    assert all(torch.equal(a, b) for a, b in zip(one.train_rows, again.train_rows, strict=True))
    runs = 400
    gone = torch.zeros(120)
    for seed in range(runs):
        stream = benchmark.make_stream(seed)
        gone[stream.train_rows[1][stream.train_tasks[1] == 0]] += 1
    spread = (0.25 * 0.75 * runs) ** 0.5
    assert ((gone - 0.25 * runs).abs() < 4.5 * spread).all()


@pytest.mark.parametrize("name", METHODS)
def test_with_nothing_to_share_a_run_is_the_plain_run_bit_for_bit(name, tiny):
    plain = make_parts(tiny, method(name), samples=10)
    none = blurred(plain, 0)
    replicas = [make_replicas(parts, lrs=(0.01,)) for parts in (plain, none)]
    same(train(plain, replicas[0]), train(none, replicas[1]), tolerance=0)
    marks = [fingerprint([r[0].stream], [0], 2, plain.method.shuffles_tasks) for r in replicas]
    assert marks[0] == marks[1]


def test_two_methods_at_one_seed_see_one_blurry_stream_and_joint_shuffles_it(tiny):
    streams = [make_replicas(blurred(make_parts(tiny, m), 0.3))[0].stream for m in (er(), joint())]
    assert fingerprint(streams[:1], [0], 2, False) == fingerprint(streams[1:], [0], 2, False)
    dealt = [pair for task in range(3) for pair in pass_orders(streams[1], 0, task, 1, mixed=True)]
    rows, owner = (torch.cat([pair[k] for pair in dealt]) for k in range(2))
    assert pairs(rows, owner) == pairs(*whole_stream(streams[0]))


def through(parts, tasks):
    """The steps of the first parts, none of which ends."""
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    for task in range(tasks):
        for found in steps_of_task(parts, replica, learner, task):
            yield task, *found
            learner = found[3]


@pytest.mark.parametrize("buffer", [ring, reservoir])
def test_replay_reads_all_that_is_held_also_of_tasks_whose_part_is_to_come(buffer, tiny):
    parts = blurred(make_parts(tiny, er(), memory_batch=None, buffer=buffer), 0.4)
    early = 0
    for task, before, draw, view, after, _ in through(parts, 2):
        held = before.memory.rows >= 0
        early += int((before.memory.tasks > task).sum())
        rows = torch.cat([draw.rows, before.memory.rows[held]])
        tasks = torch.cat([draw.task, before.memory.tasks[held]])
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert early > 0


@pytest.mark.parametrize("buffer", [ring, reservoir])
def test_the_pooled_reference_is_on_the_tasks_whose_part_is_over(buffer, tiny):
    parts = blurred(make_parts(tiny, follow(None), memory_batch=None, buffer=buffer), 0.4)
    left_out = 0
    for task, before, _, view, after, _ in through(parts, 2):
        old = (before.memory.rows >= 0) & (before.memory.tasks < task)
        left_out += int((before.memory.tasks > task).sum())
        if task:
            rows, tasks = before.memory.rows[old], before.memory.tasks[old]
            expected = mean_gradient(parts, view, before.params, rows, tasks)
            torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert left_out > 0


def test_when_a_part_ends_what_came_of_its_task_in_it_is_looked_at_and_nothing_to_come(tiny):
    looked = []

    def end_task(state, params, probe):
        looked.append(probe.rows)
        return state

    parts = blurred(make_parts(tiny, Method(keep_gradient, end_task=end_task)), 0.3)
    replicas = make_replicas(parts)
    train(parts, replicas)
    stream, sharp = replicas[0].stream, split(tiny, 2, "task").make_stream(0)
    assert [len(rows) for rows in looked] == [28, 28, 28]
    for task, rows in enumerate(looked):
        assert set(rows.tolist()) == set(stream.train_rows[task].tolist()) & set(
            sharp.train_rows[task].tolist()
        )


@pytest.mark.parametrize("share", [-0.1, 0.7])
def test_a_share_that_would_make_others_outnumber_a_task_is_refused(share, tiny):
    with pytest.raises(
        UserError, match=rf"`stream.share` must be in \[0, 1 - 1 / 3\], found {share}"
    ):
        blurred(make_parts(tiny, finetune()), share)
