"""What the buffers that choose by class do with classes of which there are few examples."""

import pytest
import torch

from gradalign_cli.methods.er import er
from tests.buffers.streams import make_ended_task
from tests.methods.catalogue import BUFFERS, buffer_factory
from tests.runs import make_parts, make_replicas, train


@pytest.fixture(params=["herding", "k_means", "mean_of_features"])
def make_buffer(request):
    return buffer_factory(request.param)


def test_the_buffers_here_are_all_that_choose_by_class():
    needs_features = {
        name for name in BUFFERS if buffer_factory(name)(60, "total", 3, 2).needs_features
    }
    assert needs_features == {"herding", "k_means", "mean_of_features"}


def test_a_class_without_an_example_in_the_ended_task_keeps_its_slots_empty(make_buffer):
    buffer = make_buffer(6, "total", tasks=1, classes_per_task=3)
    class_in_task = torch.tensor([0, 2, 0, 2, 0])
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    ended_task = make_ended_task(torch.arange(10, 15), class_in_task, features)
    memory = buffer.end_task(buffer.init(), 0, ended_task)
    assert sorted(memory.class_in_task.tolist()) == [-1, -1, 0, 0, 2, 2]
    assert ((memory.rows >= 0) == (memory.class_in_task >= 0)).all()


def test_the_slots_of_a_task_are_those_that_its_end_fills(make_buffer):
    """Seven slots for three tasks of two classes: the first class has two of them."""
    buffer = make_buffer(7, "total", tasks=3, classes_per_task=2)
    class_in_task = torch.arange(8) % 2
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    memory = buffer.init()
    for task in range(3):
        ended_task = make_ended_task(torch.arange(8), class_in_task, features)
        memory = buffer.end_task(memory, task, ended_task)
    assert torch.bincount(memory.tasks).tolist() == [3, 2, 2]
    for task in range(3):
        filled = (memory.tasks == task).nonzero()[:, 0].tolist()
        assert set(filled) <= set(buffer.task_slots[task].tolist())


def test_a_run_of_tasks_with_one_example_each_ends(make_buffer, tiny):
    parts = make_parts(tiny, er(), samples=1, buffer=make_buffer)
    outcome = train(parts, make_replicas(parts))
    assert int((outcome.learners.memory.rows >= 0).sum()) == 3
