"""What references may read in the steps of a task is shown once, where it stays the same."""

import pytest
import torch

from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.buffers.ring import ring
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.step import reference_examples
from gradalign_cli.step.reading_sizes import reference_cache_bytes
from gradalign_cli.step.reference_examples import (
    caches_reference_examples,
    make_reference_reader,
    with_cached_reference_examples,
)
from gradalign_cli.streams.blurry import blurry
from gradalign_cli.training.plan import TrainingPlan
from tests.methods.catalogue import BUFFERS, buffer_factory, method
from tests.runs import compare, make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import learner_after


def with_mask(reference_examples):
    """Examples [M, n] and which references have any, with `valid` 1 where it is absent."""
    examples, available = reference_examples
    valid = torch.ones(examples.target.shape) if examples.valid == () else examples.valid
    return examples._replace(valid=valid), available


@pytest.mark.parametrize("name", ["gem", "agem"])
@pytest.mark.parametrize("memory_batch", [None, 5])
def test_a_mask_is_read_only_where_a_slot_of_a_replica_is_empty(name, memory_batch, tiny):
    parts = make_parts(tiny, method(name), samples=20, memory_batch=memory_batch)
    replicas = make_replicas(parts, seeds=(0, 1))
    learners = tree_stack([learner_after(parts, replica, 2) for replica in replicas])
    views = tree_stack([replica.stream.view for replica in replicas])
    read = make_reference_reader(parts, 2)
    emptied = learners.memory.rows.clone()
    emptied[1, parts.buffer.task_slots[0, 0]] = -1
    with_empty_slot = learners._replace(memory=learners.memory._replace(rows=emptied))
    for these, has_mask in ((learners, False), (with_empty_slot, True)):
        cached = with_cached_reference_examples(parts, 2, these, views)
        for r in range(2):
            memory, view = (tree_index(tree, r) for tree in (these.memory, cached))
            examples, available = read(
                memory, view, torch.rand(len(memory.rows)), torch.rand(0), ()
            )
            assert isinstance(examples.valid, torch.Tensor) == has_mask
            assert available.all()


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("kind", ["split", "permuted"])
@pytest.mark.parametrize("name", ["gem", "agem", "s_gem"])
@pytest.mark.parametrize("memory_batch", [None, 5])
def test_what_is_shown_once_a_task_is_what_every_step_would_show(
    buffer, kind, name, memory_batch, tiny
):
    parts = make_parts(
        tiny,
        method(name),
        kind=kind,
        samples=20,
        buffer=buffer_factory(buffer),
        memory_batch=memory_batch,
    )
    (replica,) = make_replicas(parts)
    view, start = replica.stream.view, learner_after(parts, replica, 2)
    read = make_reference_reader(parts, 2)
    with_all = tree_index(
        with_cached_reference_examples(parts, 2, tree_stack([start]), tree_stack([view])), 0
    )
    assert (
        bool(with_all.cached_reference_examples)
        == caches_reference_examples(parts, 2)
        == parts.buffer.keeps_ended_tasks
    )
    for _, draw, _, after, _ in steps_of_task(parts, replica, start, 2):
        drawn = draw.reference_uniform, draw.align_uniform, ()
        cached, read_anew = (read(after.memory, v, *drawn) for v in (with_all, view))
        compare(with_mask(cached), with_mask(read_anew), 0)


@pytest.mark.parametrize("name", ["gem", "agem", "s_gem"])
@pytest.mark.parametrize("memory_batch", [None, 2])
def test_a_slot_that_two_tasks_are_given_is_shown_as_its_owner_sees_it(name, memory_batch, tiny):
    """Five tasks own 3, 3, 2, 2 and 2 slots: those with 2 are given their neighbour's first too."""
    parts = make_parts(tiny, method(name), memory_batch=memory_batch)
    parts = parts._replace(
        benchmark=permuted(tiny, 5, samples_per_task=20), buffer=ring(12, "total", 5, 6)
    )
    assert len(parts.buffer.task_slots.unique()) < parts.buffer.task_slots.numel()
    (replica,) = make_replicas(parts)
    view, start = replica.stream.view, learner_after(parts, replica, 4)
    read = make_reference_reader(parts, 4)
    with_all = tree_index(
        with_cached_reference_examples(parts, 4, tree_stack([start]), tree_stack([view])), 0
    )
    for _, draw, _, after, _ in steps_of_task(parts, replica, start, 4):
        drawn = draw.reference_uniform, draw.align_uniform, ()
        cached, read_anew = (read(after.memory, v, *drawn) for v in (with_all, view))
        compare(with_mask(cached), with_mask(read_anew), 0)


@pytest.mark.parametrize("name", ["gem", "agem", "s_gem", "pcgrad"])
@pytest.mark.parametrize("memory_batch", [None, 5])
def test_training_is_bit_for_bit_the_same(name, memory_batch, tiny, monkeypatch):
    parts = make_parts(tiny, method(name), samples=38, memory_batch=memory_batch)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    once = train(parts, replicas, plan=TrainingPlan(2, 5, 3, 2))
    monkeypatch.setattr(reference_examples, "caches_reference_examples", lambda *_: False)
    same(once, train(parts, replicas, plan=TrainingPlan(2, 5, 3, 2)), tolerance=0)


def test_what_may_change_or_is_too_much_is_shown_in_every_step(tiny, monkeypatch):
    parts = make_parts(tiny, method("gem"), samples=20, memory_batch=None)
    assert caches_reference_examples(parts, 2)
    assert caches_reference_examples(parts._replace(memory_batch_size=3), 2)
    assert not caches_reference_examples(parts, 0)
    mixed = blurry(parts.benchmark, 0.1)
    assert not caches_reference_examples(parts._replace(benchmark=mixed), 2)
    monkeypatch.setattr(reference_examples, "LARGEST_CACHE", reference_cache_bytes(parts, 2) - 1)
    assert not caches_reference_examples(parts, 2)
