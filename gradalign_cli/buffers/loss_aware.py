"""Loss-aware balanced reservoir: what is well learned of a frequent class goes first (LARS with
BRS, Buzzega et al. 2020, arXiv 2010.05595)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Measurements,
    Memory,
    draw_slot,
    empty_memory,
    keep_memory,
    total_capacity,
    write_from_sources,
)
from gradalign_cli.errors import require
from gradalign_cli.numerics.trees import take_rows


def expendable(count: Tensor, loss: Tensor) -> Tensor:
    """Weights [capacity] of being replaced, of how often each example's class is stored and its
    loss: both in units of their mean, the loss taken away, shifted so that the least is 0."""
    tiny = torch.finfo(loss.dtype).tiny
    worth = count / count.mean().clamp_min(tiny) - loss / loss.mean().clamp_min(tiny)
    weight = worth - worth.min()
    return torch.where(weight.sum() > 0, weight, 1.0)


def refresh(loss: Tensor, seen: Measurements) -> Tensor:
    """The losses [capacity], with those of the stored examples that were looked at."""
    assert isinstance(seen.of_stored, Tensor)
    spare = torch.cat([loss, loss[:1]])  # one slot more, for what only fills a place
    slot = torch.where(seen.valid > 0, seen.slots, len(loss))
    return spare.scatter(0, slot, seen.of_stored)[: len(loss)]


def loss_aware(
    capacity: int, capacity_per: str, tasks: int, classes: int, refreshed: int
) -> Buffer:
    """A reservoir admits examples; the slot of an admitted one is drawn by class and loss, where a
    class of another task is another class.

    refreshed: how many random losses are brought up to date in a step, for one more pass forward;
    the paper does it for those it replays. Its published code divides the losses once more by the
    square of the mean count, which leaves them little say.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes)
    require(refreshed > 0, "buffer.refreshed", "positive", refreshed)
    slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        assert isinstance(arrivals.measurements, Measurements)
        loss, own = refresh(memory.scores, arrivals.measurements), arrivals.measurements.of_arrivals
        owner = (memory.tasks * classes + memory.class_positions).clamp_min(0)
        group = arrivals.tasks * classes + arrivals.class_positions
        source, here = torch.full_like(memory.rows, -1), slots.to(loss.device)
        for number, (whether, which) in enumerate(arrivals.uniform.double().unbind()):
            arrived = memory.counters[0] + number
            kept = loss.new_zeros(tasks * classes).scatter_add(0, owner, torch.ones_like(loss))
            rival = here == draw_slot(expendable(take_rows(kept, owner), loss), which)
            admitted = (whether * (arrived + 1)).long() < total
            taken = torch.where(arrived < total, here == arrived, rival & admitted)
            loss = torch.where(taken, own[number], loss)
            owner = torch.where(taken, group[number], owner)
            source = torch.where(taken, number, source)
        counts = memory.counters + len(arrivals.rows)
        return write_from_sources(memory, source, arrivals)._replace(scores=loss, counters=counts)

    return Buffer(
        lambda: empty_memory(total, 1, scored=True),
        insert,
        keep_memory,
        slots.expand(tasks, -1),
        measures="losses",
        measured_examples=refreshed,
        uniforms_per_arrival=2,
        task_ids="of each",
    )
