import pytest
import torch

from gradalign_cli.buffers.buffer import Measurements
from gradalign_cli.buffers.loss_aware import loss_aware, refreshed_losses, replacement_weights
from gradalign_cli.errors import UserError
from tests.buffers.streams import (
    assert_shares,
    full_memory,
    memories_after_batch,
    memories_by_batch_size,
    memory_after_stream,
)

RUNS = 20000


def buffer_with_full_memory(losses, class_in_task, arrived):
    """A buffer, and a full memory in which `arrived` examples have been counted."""
    buffer = loss_aware(len(losses), "total", tasks=1, classes_per_task=3, refreshed_examples=1)
    memory = full_memory(buffer, losses, class_in_task)
    return buffer, memory._replace(counters=torch.tensor([arrived]))


def test_the_weight_of_a_slot_is_its_class_in_means_less_its_loss_in_means():
    same_class_counts, losses = torch.tensor([[3.0, 3, 3, 1], [1, 2, 3, 2]]).double()
    weights = replacement_weights(same_class_counts, losses)
    assert weights.tolist() == pytest.approx([1.3, 0.8, 0.3, 0.0])
    # in any units
    torch.testing.assert_close(replacement_weights(same_class_counts, 7 * losses), weights)


def test_an_example_is_admitted_as_by_a_reservoir_and_the_slot_drawn_by_weight():
    buffer, memory = buffer_with_full_memory([1.0, 2.0, 3.0, 2.0], [0, 0, 0, 1], arrived=9)
    new_losses = torch.tensor([5.0]).double()
    memories = memories_after_batch(buffer, memory, new_losses, memory.scores[:1], RUNS, [2])
    replaced = memories.rows == 100
    weights = torch.tensor([1.3, 0.8, 0.3, 0.0]).double()
    assert_shares(replaced.double().mean(0), 4 / 10 * weights / weights.sum(), RUNS)
    assert torch.equal(memories.scores, torch.where(replaced, 5.0, memory.scores))
    assert torch.equal(memories.class_in_task, torch.where(replaced, 2, memory.class_in_task))
    assert (memories.counters == 10).all()


def test_of_one_class_and_equal_losses_it_is_a_reservoir():
    """Every example is stored with probability capacity / n, in batches larger than the memory."""
    buffer = loss_aware(6, "total", tasks=1, classes_per_task=1, refreshed_examples=1)
    memory = buffer.init()._replace(scores=torch.zeros(6).double())
    new_losses, no_losses = torch.full((29,), 0.7).double(), torch.zeros(0).double()
    memories = memories_after_batch(buffer, memory, new_losses, no_losses, RUNS)
    shares = torch.bincount(memories.rows.flatten() - 100, minlength=29) / RUNS
    assert_shares(shares.double(), [6 / 29] * 29, RUNS)


def test_with_equal_losses_a_class_gives_way_by_how_much_it_exceeds_the_rarest():
    buffer, memory = buffer_with_full_memory([1.0] * 6, [0, 0, 0, 1, 1, 2], arrived=11)
    new_losses = torch.ones(1).double()
    memories = memories_after_batch(buffer, memory, new_losses, memory.scores[:1], RUNS, [2])
    excess = torch.tensor([2, 2, 2, 1, 1, 0]).double()
    replaced = (memories.rows == 100).double()
    assert_shares(replaced.mean(0), 6 / 12 * excess / excess.sum(), RUNS)


def test_classes_are_balanced_where_the_stream_is_not():
    """A reservoir of 12 would store 10.8 of the class that comes nine times in ten."""
    class_in_task = torch.where(torch.arange(300) % 10 > 0, 0, 1 + torch.arange(300) // 10 % 2)
    buffer = loss_aware(12, "total", tasks=1, classes_per_task=3, refreshed_examples=1)
    counts = []
    for seed in range(20):
        memory = memory_after_stream(buffer, torch.ones(300), class_in_task, seed)
        counts.append(torch.bincount(memory.class_in_task, minlength=3))
    mean_counts = torch.stack(counts).double().mean(0)
    assert mean_counts[0] < 9
    assert mean_counts[1:].min() > 1.5


def test_the_size_of_the_batches_does_not_matter():
    """Where no loss but that of the first slot is brought up to date."""
    buffer = loss_aware(5, "total", tasks=1, classes_per_task=3, refreshed_examples=1)
    losses = torch.full((60,), 0.7).double()
    class_in_task = torch.arange(60) % 3 // 2
    first, *others = memories_by_batch_size(buffer, losses, class_in_task, losses[:1])
    assert first.rows.max() > 5
    for memory in others:
        assert torch.equal(memory.rows, first.rows)
        assert torch.equal(memory.class_in_task, first.class_in_task)


def test_examples_with_low_losses_give_way_to_those_with_high_losses():
    """One in twenty has a loss that is not tiny; a reservoir of 10 would store half of one."""
    hard = torch.arange(400) % 20 == 0
    buffer = loss_aware(10, "total", tasks=1, classes_per_task=1, refreshed_examples=10)
    losses = torch.where(hard, 2.0, 0.01)
    memories = [
        memory_after_stream(buffer, losses, torch.zeros(400).long(), seed) for seed in range(20)
    ]
    assert sum(int(hard[memory.rows].sum()) for memory in memories) / 20 > 2


def test_the_losses_of_measured_examples_are_brought_up_to_date():
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    slots, valid = torch.tensor([2, 0, 2]), torch.tensor([1.0, 1.0, 0.0])
    measurements = Measurements(losses[:1], torch.tensor([30.0, 10.0, 0.0]), slots, valid)
    assert refreshed_losses(losses, measurements).tolist() == [10.0, 2.0, 30.0, 4.0]


def test_something_must_be_refreshed():
    with pytest.raises(UserError, match=r"`buffer.refreshed_examples` must be positive, found 0"):
        loss_aware(4, "total", tasks=1, classes_per_task=1, refreshed_examples=0)
