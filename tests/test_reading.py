"""What references read in every step of a task may be read once, where it stays the same."""

import pytest

from gradalign_cli.learner import make_reading, reads_the_same, with_reading
from gradalign_cli.runner import Plan
from gradalign_cli.streams.blurry import blurry
from gradalign_cli.trees import index, stack
from tests.methods.catalogue import BUFFERS, buffer_factory, method
from tests.runs import compare, make_parts, make_replicas, same, steps_of_task, train
from tests.test_learner import learner_after


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("kind", ["split", "permuted"])
def test_what_is_read_once_a_task_is_what_every_step_would_read(buffer, kind, tiny):
    parts = make_parts(
        tiny, method("gem"), kind=kind, samples=20, buffer=buffer_factory(buffer), memory_batch=None
    )
    (replica,) = make_replicas(parts)
    view, start = replica.stream.view, learner_after(parts, replica, 2)
    again = make_reading(parts, 2)
    assert reads_the_same(parts, 2) == parts.buffer.settled
    found = with_reading(parts, 2, stack([start]), stack([view])).reading
    assert bool(found) == parts.buffer.settled
    for _, draw, _, after, _ in steps_of_task(parts, replica, start, 2):
        if found:
            now = again(after.memory, view, draw.reference, draw.align, ())
            compare(index(found, 0), now, 0)


@pytest.mark.parametrize("name", ["gem", "agem", "pcgrad"])
def test_training_is_bit_for_bit_the_same(name, tiny, monkeypatch):
    parts = make_parts(tiny, method(name), samples=38, memory_batch=None)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    once = train(parts, replicas, plan=Plan(2, 5, 3, 2))
    monkeypatch.setattr("gradalign_cli.learner.reads_the_same", lambda *_: False)
    same(once, train(parts, replicas, plan=Plan(2, 5, 3, 2)), tolerance=0)


def test_what_is_drawn_anew_or_may_change_is_read_in_every_step(tiny):
    parts = make_parts(tiny, method("gem"), samples=20, memory_batch=None)
    assert reads_the_same(parts, 2)
    assert not reads_the_same(parts, 0)
    assert not reads_the_same(parts._replace(memory_batch=3), 2)
    assert not reads_the_same(parts._replace(method=method("s_gem")), 2)
    mixed = blurry(parts.benchmark, 0.1)
    assert not reads_the_same(parts._replace(benchmark=mixed), 2)
