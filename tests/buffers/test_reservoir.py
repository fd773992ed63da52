import pytest
import torch

from gradalign_cli.buffers.buffer import Arrivals
from gradalign_cli.buffers.reservoir import reservoir
from tests.buffers.streams import (
    NO_LOGITS,
    assert_shares,
    insert_task,
    memories_by_batch_size,
    memories_of_runs,
)

RUNS = 4000


def test_every_example_is_stored_with_probability_capacity_over_n():
    buffer = reservoir(10, "total", tasks=1, classes_per_task=1)
    stored_rows = memories_of_runs(buffer, torch.arange(47), torch.zeros(47).long(), RUNS).rows
    assert (stored_rows >= 0).all()
    assert (stored_rows.sort(1).values.diff(dim=1) > 0).all()  # nothing twice
    shares = torch.bincount(stored_rows.flatten(), minlength=47) / RUNS
    assert_shares(shares.double(), [10 / 47] * 47, RUNS)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_example_n_takes_each_slot_for_a_share_of_exactly_1_in_n_of_the_random_numbers(n):
    buffer = reservoir(2, "total", tasks=1, classes_per_task=1)
    zeros = torch.zeros(n - 1).long()
    full = insert_task(buffer, buffer.init(), torch.arange(n - 1), 0, zeros, 0)
    uniform = (torch.arange(10 * n) + 0.5) / (10 * n)
    slots = []
    for u in uniform:
        arrival = Arrivals(torch.tensor([99]), zeros[:1], zeros[:1], u.view(1, 1), NO_LOGITS[:1])
        slots += (buffer.insert(full, arrival).rows == 99).nonzero().flatten().tolist()
    assert slots == [0] * 10 + [1] * 10


def test_the_first_examples_all_fit():
    buffer = reservoir(30, "total", tasks=1, classes_per_task=1)
    memory = insert_task(buffer, buffer.init(), torch.arange(25), 0, torch.zeros(25).long(), 0)
    assert memory.rows[:25].tolist() == list(range(25))
    assert (memory.rows[25:] == -1).all()


def test_the_size_of_the_batches_does_not_matter():
    buffer = reservoir(5, "total", tasks=1, classes_per_task=1)
    first, *others = memories_by_batch_size(buffer, torch.zeros(40), torch.zeros(40).long(), ())
    assert first.rows.max() > 5
    for memory in others:
        assert torch.equal(memory.rows, first.rows)
