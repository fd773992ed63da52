"""Loss-aware balanced reservoir: what is well learned of a frequent class goes first (LARS with
BRS, Buzzega et al. 2020, arXiv 2010.05595)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    Seen,
    draw_slot,
    empty,
    place,
    total_capacity,
    unchanged,
)
from gradalign_cli.errors import require
from gradalign_cli.trees import take


def expendable(count: Tensor, loss: Tensor) -> Tensor:
    """Weights [capacity] of being replaced, of how often each example's class is stored and its
    loss: both in units of their mean, the loss taken away, shifted so that the least is 0."""
    tiny = torch.finfo(loss.dtype).tiny
    worth = count / count.mean().clamp_min(tiny) - loss / loss.mean().clamp_min(tiny)
    weight = worth - worth.min()
    return torch.where(weight.sum() > 0, weight, 1.0)


def refresh(loss: Tensor, seen: Seen) -> Tensor:
    """The losses [capacity], with those of the stored examples that were looked at."""
    assert isinstance(seen.stored, Tensor)
    spare = torch.cat([loss, loss[:1]])  # one slot more, for what only fills a place
    slot = torch.where(seen.weight > 0, seen.slot, len(loss))
    return spare.scatter(0, slot, seen.stored)[: len(loss)]


def loss_aware(capacity: int, per: str, tasks: int, classes: int, refreshed: int) -> Buffer:
    """A reservoir admits examples; the slot of an admitted one is drawn by class and loss, where a
    class of another task is another class.

    refreshed: how many random losses are brought up to date in a step, for one more pass forward;
    the paper does it for those it replays. Its published code divides the losses once more by the
    square of the mean count, which leaves them little say.
    """
    total = total_capacity(capacity, per, tasks, classes)
    require(refreshed > 0, "buffer.refreshed", "positive", refreshed)
    slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        assert isinstance(arrivals.seen, Seen)
        loss, own = refresh(memory.score, arrivals.seen), arrivals.seen.arrivals
        owner = (memory.task * classes + memory.position).clamp_min(0)
        group = arrivals.task * classes + arrivals.position
        source, here = torch.full_like(memory.row, -1), slots.to(loss.device)
        for number, (whether, which) in enumerate(arrivals.uniform.double().unbind()):
            arrived = memory.counts[0] + number
            kept = loss.new_zeros(tasks * classes).scatter_add(0, owner, torch.ones_like(loss))
            rival = here == draw_slot(expendable(take(kept, owner), loss), which)
            admitted = (whether * (arrived + 1)).long() < total
            taken = torch.where(arrived < total, here == arrived, rival & admitted)
            loss = torch.where(taken, own[number], loss)
            owner = torch.where(taken, group[number], owner)
            source = torch.where(taken, number, source)
        counts = memory.counts + len(arrivals.row)
        return place(memory, source, arrivals)._replace(score=loss, counts=counts)

    return Buffer(
        lambda: empty(total, 1, scored=True),
        insert,
        unchanged,
        slots.expand(tasks, -1),
        wants="losses",
        looks=refreshed,
        uniforms=2,
        task_ids="of each",
    )
