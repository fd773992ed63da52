import torch

from gradalign_cli.buffers.ring_per_class import ring_per_class
from tests.buffers.streams import feed


def test_each_class_of_each_task_keeps_its_newest():
    buffer = ring_per_class(2, "class", tasks=2, classes=2)
    position = torch.arange(20) % 2
    memory = feed(buffer, buffer.init(), torch.arange(20), 0, position, 0)
    memory = feed(buffer, memory, torch.arange(100, 120), 1, position, 0)
    kept = {(t, p): set() for t in range(2) for p in range(2)}
    for row, task, place in zip(memory.rows, memory.tasks, memory.class_positions, strict=True):
        kept[int(task), int(place)].add(int(row))
    assert kept == {(0, 0): {16, 18}, (0, 1): {17, 19}, (1, 0): {116, 118}, (1, 1): {117, 119}}
    assert set(memory.tasks[buffer.task_slots[0]].tolist()) == {0}


def test_a_rare_class_keeps_its_slots():
    buffer = ring_per_class(6, "total", tasks=1, classes=2)
    position = torch.zeros(50).long()
    position[3] = 1
    memory = feed(buffer, buffer.init(), torch.arange(50), 0, position, 0)
    assert memory.rows[memory.class_positions == 1].tolist() == [3]
    assert (memory.class_positions == 0).sum() == 3
