import torch

from gradalign_cli.buffers.uniform import uniform
from tests.buffers.streams import insert_task, make_ended_task


def test_nothing_enters_before_the_end_of_a_task_and_a_share_of_it_then():
    buffer = uniform(7, "total", tasks=2, classes_per_task=2, shrinks=False)
    memory = insert_task(buffer, buffer.init(), torch.arange(20), 0, torch.zeros(20).long(), 0)
    assert (memory.rows == -1).all()
    class_in_task = torch.arange(20) % 2
    memory = buffer.end_task(memory, 0, make_ended_task(torch.arange(20), class_in_task))
    assert memory.rows.tolist() == [0, 1, 2, 3, -1, -1, -1]
    memory = buffer.end_task(memory, 1, make_ended_task(torch.arange(50, 70), class_in_task))
    assert memory.rows.tolist() == [0, 1, 2, 3, 50, 51, 52]
    assert memory.tasks.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert memory.class_in_task.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_a_task_smaller_than_its_share_leaves_slots_empty():
    buffer = uniform(6, "total", tasks=1, classes_per_task=2, shrinks=False)
    ended_task = make_ended_task(torch.arange(4), torch.arange(4) % 2)
    memory = buffer.end_task(buffer.init(), 0, ended_task)
    assert memory.rows.tolist() == [0, 1, 2, 3, -1, -1]
