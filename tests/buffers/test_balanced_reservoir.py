import torch

from gradalign_cli.buffers.balanced_reservoir import balanced_reservoir, nth_candidate_slot
from tests.buffers.streams import assert_shares, insert_task, memories_of_runs

RUNS = 3000


def test_a_candidate_is_found_by_its_number():
    candidates = torch.tensor([False, True, False, True, True])
    assert [int(nth_candidate_slot(candidates, torch.tensor(n))) for n in range(3)] == [1, 3, 4]


def test_a_rare_class_is_stored_whole_and_the_other_classes_share_what_is_left():
    buffer = balanced_reservoir(12, "total", tasks=1, classes_per_task=3)
    class_in_task = torch.zeros(100).long()
    class_in_task[50:] = 1
    class_in_task[[60, 80]] = 2
    for seed in range(5):
        memory = insert_task(buffer, buffer.init(), torch.arange(100), 0, class_in_task, seed)
        assert torch.bincount(memory.class_in_task).tolist() == [5, 5, 2]
        assert {60, 80} <= set(memory.rows.tolist())


def test_classes_of_other_tasks_are_other_groups():
    buffer = balanced_reservoir(8, "total", tasks=2, classes_per_task=2)
    class_in_task = torch.arange(40) % 2
    memory = insert_task(buffer, buffer.init(), torch.arange(40), 0, class_in_task, 0)
    memory = insert_task(buffer, memory, torch.arange(100, 140), 1, class_in_task, 1)
    assert torch.bincount(memory.tasks * 2 + memory.class_in_task).tolist() == [2, 2, 2, 2]


def test_within_a_full_class_all_have_the_same_chance():
    buffer = balanced_reservoir(6, "total", tasks=1, classes_per_task=2)
    stored_rows = memories_of_runs(buffer, torch.arange(40), torch.arange(40) % 2, RUNS).rows
    shares = torch.bincount(stored_rows.flatten(), minlength=40) / RUNS
    assert_shares(shares.double(), [3 / 20] * 40, RUNS)


def test_a_single_class_is_a_reservoir():
    buffer = balanced_reservoir(5, "total", tasks=1, classes_per_task=1)
    stored_rows = memories_of_runs(buffer, torch.arange(23), torch.zeros(23).long(), RUNS).rows
    shares = torch.bincount(stored_rows.flatten(), minlength=23) / RUNS
    assert_shares(shares.double(), [5 / 23] * 23, RUNS)
