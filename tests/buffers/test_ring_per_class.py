import torch

from gradalign_cli.buffers.ring_per_class import ring_per_class
from tests.buffers.streams import insert_task


def test_each_class_of_each_task_stores_its_newest_examples():
    buffer = ring_per_class(2, "class", tasks=2, classes_per_task=2)
    class_in_task = torch.arange(20) % 2
    memory = insert_task(buffer, buffer.init(), torch.arange(20), 0, class_in_task, 0)
    memory = insert_task(buffer, memory, torch.arange(100, 120), 1, class_in_task, 0)
    stored = {(task, position): set() for task in range(2) for position in range(2)}
    for row, task, position in zip(memory.rows, memory.tasks, memory.class_in_task, strict=True):
        stored[int(task), int(position)].add(int(row))
    assert stored == {(0, 0): {16, 18}, (0, 1): {17, 19}, (1, 0): {116, 118}, (1, 1): {117, 119}}
    assert set(memory.tasks[buffer.task_slots[0]].tolist()) == {0}


def test_a_rare_class_keeps_its_slots():
    buffer = ring_per_class(6, "total", tasks=1, classes_per_task=2)
    class_in_task = torch.zeros(50).long()
    class_in_task[3] = 1
    memory = insert_task(buffer, buffer.init(), torch.arange(50), 0, class_in_task, 0)
    assert memory.rows[memory.class_in_task == 1].tolist() == [3]
    assert (memory.class_in_task == 0).sum() == 3
