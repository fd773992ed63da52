import torch

from gradalign_cli.buffers.balanced_reservoir import balanced_reservoir
from tests.buffers.streams import feed, feed_many

RUNS = 3000


def test_a_rare_class_is_kept_whole_and_the_rest_is_shared():
    buffer = balanced_reservoir(12, "total", tasks=1, classes=3)
    position = torch.zeros(100).long()
    position[50:] = 1
    position[[60, 80]] = 2
    for seed in range(5):
        memory = feed(buffer, buffer.init(), torch.arange(100), 0, position, seed)
        assert torch.bincount(memory.class_positions).tolist() == [5, 5, 2]
        assert {60, 80} <= set(memory.rows.tolist())


def test_classes_of_other_tasks_are_other_groups():
    buffer = balanced_reservoir(8, "total", tasks=2, classes=2)
    position = torch.arange(40) % 2
    memory = feed(buffer, buffer.init(), torch.arange(40), 0, position, 0)
    memory = feed(buffer, memory, torch.arange(100, 140), 1, position, 1)
    assert torch.bincount(memory.tasks * 2 + memory.class_positions).tolist() == [2, 2, 2, 2]


def test_within_a_full_class_all_have_the_same_chance():
    buffer = balanced_reservoir(6, "total", tasks=1, classes=2)
    position = torch.arange(40) % 2
    kept = feed_many(buffer, torch.arange(40), position, RUNS).rows
    share = torch.bincount(kept.flatten(), minlength=40) / RUNS
    p = 3 / 20
    deviation = (p * (1 - p) / RUNS) ** 0.5
    assert ((share - p).abs() < 4.5 * deviation).all()


def test_a_single_class_is_a_reservoir():
    buffer = balanced_reservoir(5, "total", tasks=1, classes=1)
    kept = feed_many(buffer, torch.arange(23), torch.zeros(23).long(), RUNS).rows
    share = torch.bincount(kept.flatten(), minlength=23) / RUNS
    p = 5 / 23
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / RUNS) ** 0.5).all()
