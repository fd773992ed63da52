import pytest
import torch

from gradalign_cli.buffers.buffer import even_shares
from gradalign_cli.buffers.herding import herding, herding_order
from gradalign_cli.buffers.uniform import uniform
from tests.buffers.streams import make_ended_task


def end_tasks(buffer, tasks, features=None):
    """The memories after each of some tasks of 20 examples, which number on, in two classes."""
    memory, memories = buffer.init(), []
    for task in range(tasks):
        rows = torch.arange(20 * task, 20 * task + 20)
        ended_task = make_ended_task(rows, torch.arange(20) % 2, features)
        memory = buffer.end_task(memory, task, ended_task)
        memories.append(memory)
    return memories


def test_the_ended_tasks_share_the_whole_memory_evenly():
    buffer = uniform(7, "total", tasks=4, classes_per_task=2, shrinks=True)
    for ended, memory in enumerate(end_tasks(buffer, 4), 1):
        assert torch.bincount(memory.tasks).tolist() == even_shares(7, ended)


def test_an_earlier_task_keeps_the_first_of_its_examples():
    buffer = uniform(7, "total", tasks=3, classes_per_task=2, shrinks=True)
    first, second, third = (memory.rows.tolist() for memory in end_tasks(buffer, 3))
    assert first == [0, 1, 2, 3, 4, 5, 6]
    assert second == [0, 1, 2, 3, 20, 21, 22]
    assert third == [0, 1, 2, 20, 21, 40, 41]


def test_of_each_class_the_examples_that_herding_took_first_remain():
    buffer = herding(8, "total", tasks=2, classes_per_task=2, shrinks=True)
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    for ended, memory in enumerate(end_tasks(buffer, 2, features), 1):
        expected = [
            2 * herding_order(features[class_in_task::2], 4 // ended) + class_in_task + 20 * task
            for task in range(ended)
            for class_in_task in range(2)
        ]
        assert memory.rows.tolist() == torch.cat(expected).tolist()


@pytest.mark.parametrize("make_buffer", [uniform, herding])
def test_of_a_single_task_the_memory_is_that_of_fixed_shares(make_buffer):
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    fixed, shrinking = (
        end_tasks(make_buffer(6, "total", 1, 2, shrinks=shrinks), 1, features)[0]
        for shrinks in (False, True)
    )
    assert fixed.rows.tolist() == shrinking.rows.tolist()
    assert fixed.class_in_task.tolist() == shrinking.class_in_task.tolist()


def test_a_task_with_few_examples_leaves_slots_empty_and_the_others_as_they_are():
    buffer = uniform(6, "total", tasks=2, classes_per_task=2, shrinks=True)
    memory = buffer.end_task(buffer.init(), 0, make_ended_task(torch.arange(2), torch.arange(2)))
    assert memory.rows.tolist() == [0, 1, -1, -1, -1, -1]
    ended_task = make_ended_task(torch.arange(10, 30), torch.arange(20) % 2)
    memory = buffer.end_task(memory, 1, ended_task)
    assert memory.rows.tolist() == [0, 1, 10, 11, 12, -1]
    assert memory.tasks.tolist() == [0, 0, 1, 1, 1, -1]
