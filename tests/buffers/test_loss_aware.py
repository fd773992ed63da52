import pytest
import torch

from gradalign_cli.buffers.buffer import Measurements
from gradalign_cli.buffers.loss_aware import expendable, loss_aware, refresh
from gradalign_cli.errors import UserError
from tests.buffers.streams import agrees, feed_known, full_memory, in_batches, offer

RUNS = 20000


def a_full_one(loss, position, arrived):
    """A buffer and its memory, full since many examples ago."""
    buffer = loss_aware(len(loss), "total", tasks=1, classes=3, refreshed=1)
    memory = full_memory(buffer, loss, position)
    return buffer, memory._replace(counts=torch.tensor([arrived]))


def test_the_weight_of_a_slot_is_its_class_in_means_less_its_loss_in_means():
    count, loss = torch.tensor([[3.0, 3, 3, 1], [1, 2, 3, 2]]).double()
    assert expendable(count, loss).tolist() == pytest.approx([1.3, 0.8, 0.3, 0.0])
    # in any units
    torch.testing.assert_close(expendable(count, 7 * loss), expendable(count, loss))


def test_an_example_is_admitted_as_by_a_reservoir_and_the_slot_drawn_by_weight():
    buffer, memory = a_full_one([1.0, 2.0, 3.0, 2.0], [0, 0, 0, 1], arrived=9)
    after = offer(buffer, memory, torch.tensor([5.0]).double(), memory.scores[:1], RUNS, [2])
    new = after.rows == 100
    weight = torch.tensor([1.3, 0.8, 0.3, 0.0]).double()
    agrees(new.double().mean(0), 4 / 10 * weight / weight.sum(), RUNS)
    assert torch.equal(after.scores, torch.where(new, 5.0, memory.scores))
    assert torch.equal(after.class_positions, torch.where(new, 2, memory.class_positions))
    assert (after.counters == 10).all()


def test_of_one_class_and_equal_losses_it_is_a_reservoir():
    """Every example is kept with probability capacity / n, in batches larger than the memory."""
    buffer = loss_aware(6, "total", tasks=1, classes=1, refreshed=1)
    memory = buffer.init()._replace(scores=torch.zeros(6).double())
    kept = offer(
        buffer, memory, torch.full((29,), 0.7).double(), torch.zeros(0).double(), RUNS
    ).rows
    share = torch.bincount(kept.flatten() - 100, minlength=29) / RUNS
    agrees(share.double(), [6 / 29] * 29, RUNS)


def test_with_equal_losses_a_class_gives_way_by_how_much_it_exceeds_the_rarest():
    buffer, memory = a_full_one([1.0] * 6, [0, 0, 0, 1, 1, 2], arrived=11)
    after = offer(buffer, memory, torch.ones(1).double(), memory.scores[:1], RUNS, [2])
    excess = torch.tensor([2, 2, 2, 1, 1, 0]).double()
    agrees((after.rows == 100).double().mean(0), 6 / 12 * excess / excess.sum(), RUNS)


def test_classes_are_balanced_where_the_stream_is_not():
    """A reservoir of 12 would keep 10.8 of the class that comes nine times in ten."""
    position = torch.where(torch.arange(300) % 10 > 0, 0, 1 + torch.arange(300) // 10 % 2)
    buffer = loss_aware(12, "total", tasks=1, classes=3, refreshed=1)
    found = [
        feed_known(buffer, torch.ones(300), position, seed).class_positions for seed in range(20)
    ]
    share = torch.stack([torch.bincount(own, minlength=3) for own in found]).double().mean(0)
    assert share[0] < 9
    assert share[1:].min() > 1.5


def test_the_size_of_the_batches_does_not_matter():
    """Where no loss but that of the first slot is brought up to date."""
    buffer = loss_aware(5, "total", tasks=1, classes=3, refreshed=1)
    known = torch.full((60,), 0.7).double()
    one, *others = in_batches(buffer, known, torch.arange(60) % 3 // 2, known[:1])
    assert one.row.max() > 5
    for other in others:
        assert torch.equal(other.row, one.row)
        assert torch.equal(other.position, one.position)


def test_what_is_learned_well_gives_way_to_what_is_not():
    """One in twenty has a loss that is not tiny; a reservoir of 10 would keep half of one."""
    hard = torch.arange(400) % 20 == 0
    buffer = loss_aware(10, "total", tasks=1, classes=1, refreshed=10)
    known = torch.where(hard, 2.0, 0.01)
    found = [feed_known(buffer, known, torch.zeros(400).long(), seed) for seed in range(20)]
    assert sum(int(hard[memory.rows].sum()) for memory in found) / 20 > 2


def test_the_losses_that_were_looked_at_are_brought_up_to_date():
    loss = torch.tensor([1.0, 2.0, 3.0, 4.0])
    slot, weight = torch.tensor([2, 0, 2]), torch.tensor([1.0, 1.0, 0.0])
    seen = Measurements(loss[:1], torch.tensor([30.0, 10.0, 0.0]), slot, weight)
    assert refresh(loss, seen).tolist() == [10.0, 2.0, 30.0, 4.0]


def test_something_must_be_refreshed():
    with pytest.raises(UserError, match=r"`buffer.refreshed` must be positive, found 0"):
        loss_aware(4, "total", tasks=1, classes=1, refreshed=0)
