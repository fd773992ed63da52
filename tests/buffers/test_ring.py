import pytest
import torch

from gradalign_cli.buffers.buffer import Arrivals, write_to_slots
from gradalign_cli.buffers.ring import ring, ring_sizes_and_first_slots, slots_of_each_task
from gradalign_cli.errors import UserError
from tests.buffers.streams import insert_task


def test_rings_lie_one_after_the_other():
    sizes, first_slots = ring_sizes_and_first_slots(11, 3)
    assert sizes.tolist() == [4, 4, 3]
    assert first_slots.tolist() == [0, 4, 8]


def test_a_smaller_task_also_lists_its_neighbours_slots():
    assert slots_of_each_task(torch.tensor([2, 1, 1])).tolist() == [[0, 1], [2, 3], [3, 3]]


def test_each_task_stores_its_newest_examples_and_replaces_no_others():
    buffer = ring(8, "total", tasks=2, classes_per_task=3)
    memory = insert_task(buffer, buffer.init(), torch.arange(25), 0, torch.zeros(25).long(), 0)
    assert set(memory.rows[buffer.task_slots[0]].tolist()) == {21, 22, 23, 24}
    assert (memory.rows[buffer.task_slots[1]] == -1).all()
    memory = insert_task(buffer, memory, torch.arange(100, 103), 1, torch.zeros(3).long(), 0)
    assert set(memory.rows[buffer.task_slots[0]].tolist()) == {21, 22, 23, 24}
    assert sorted(memory.rows[buffer.task_slots[1]].tolist()) == [-1, 100, 101, 102]


def test_all_slots_of_an_uneven_capacity_are_used():
    buffer = ring(11, "total", tasks=3, classes_per_task=2)
    memory = buffer.init()
    for task in range(3):
        rows = torch.arange(100 * task, 100 * task + 30)
        memory = insert_task(buffer, memory, rows, task, torch.zeros(30).long(), 0)
    assert torch.bincount(memory.tasks).tolist() == [4, 4, 3]
    assert len(memory.rows.unique()) == 11


def test_row_task_and_class_position_belong_to_one_example():
    buffer = ring(4, "total", tasks=1, classes_per_task=30)
    rows = torch.arange(30)
    memory = insert_task(buffer, buffer.init(), rows, 0, rows, 0, batch_size=30)
    assert torch.equal(memory.rows, memory.class_in_task)
    assert set(memory.rows.tolist()) == {26, 27, 28, 29}


def test_a_capacity_below_one_slot_a_task_is_refused():
    with pytest.raises(UserError, match=r"`buffer.capacity` must give every group a slot, found 2"):
        ring(2, "total", tasks=3, classes_per_task=2)


def test_capacity_can_be_given_per_task_and_per_class():
    assert len(ring(5, "task", tasks=3, classes_per_task=2).init().rows) == 15
    assert len(ring(5, "class", tasks=3, classes_per_task=2).init().rows) == 30
    with pytest.raises(
        UserError, match=r"`buffer.capacity_per` must be one of total, task, class, found 'row'"
    ):
        ring(5, "row", tasks=3, classes_per_task=2)


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7])
def test_a_batch_larger_than_its_ring_writes_its_newest_examples_alone(batch_size, monkeypatch):
    """Two examples for one slot would leave it to chance which of them stays."""
    slots_written = []

    def record_slots(memory, slots, written, arrivals, counters):
        kept = slots if written is None else slots[written]
        slots_written.append(kept.tolist())
        return write_to_slots(memory, slots, written, arrivals, counters)

    monkeypatch.setattr("gradalign_cli.buffers.ring.write_to_slots", record_slots)
    buffer = ring(3, "total", tasks=1, classes_per_task=1)
    zeros = torch.zeros(batch_size, dtype=torch.long)
    arrivals = Arrivals(
        torch.arange(batch_size),
        zeros,
        zeros,
        torch.rand(batch_size, 1),
        torch.zeros(batch_size, 0),
    )
    memory = buffer.insert(buffer.init(), arrivals)
    (slots,) = slots_written
    assert len(set(slots)) == len(slots) == min(batch_size, 3)
    newest = set(range(batch_size)[-3:])
    assert set(memory.rows[memory.rows >= 0].tolist()) == newest
