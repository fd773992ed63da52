"""Loss-aware balanced reservoir: examples of frequent classes with a low loss are replaced first
(LARS with BRS, Buzzega et al. 2020, arXiv 2010.05595)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    CapacityUnit,
    Measurements,
    Memory,
    draw_slot,
    empty_memory,
    keep_memory,
    total_capacity,
    write_chosen_arrivals,
)
from gradalign_cli.errors import require
from gradalign_cli.numerics.trees import take_rows


def replacement_weights(same_class_counts: Tensor, losses: Tensor) -> Tensor:
    """The weights [capacity] with which slots are drawn to be replaced.

    same_class_counts: [capacity] how many examples of the same class are stored;  losses:
    [capacity]. A weight is the count divided by the mean count, less the loss divided by the mean
    loss, shifted so that the smallest weight is 0. Where all weights are then 0, all are 1.
    """
    tiny = torch.finfo(losses.dtype).tiny
    relative_counts = same_class_counts / same_class_counts.mean().clamp_min(tiny)
    difference = relative_counts - losses / losses.mean().clamp_min(tiny)
    weights = difference - difference.min()
    return torch.where(weights.sum() > 0, weights, 1.0)


def refreshed_losses(losses: Tensor, measurements: Measurements) -> Tensor:
    """The losses [capacity] of all slots, those of the measured examples brought up to date."""
    assert isinstance(measurements.stored_losses, Tensor)
    extended = torch.cat([losses, losses[:1]])  # one slot more, for padding
    slots = torch.where(measurements.stored_valid > 0, measurements.stored_slots, len(losses))
    return extended.scatter(0, slots, measurements.stored_losses)[: len(losses)]


def loss_aware(
    capacity: int,
    capacity_per: CapacityUnit,
    tasks: int,
    classes_per_task: int,
    refreshed_examples: int,
) -> Buffer:
    """Examples are admitted as by a reservoir. The slot of an admitted example is drawn by class
    and loss (`replacement_weights`); equal classes of two tasks count as two.

    refreshed_examples: how many stored examples, drawn at random, have their losses brought up to
    date in a step, which costs one more forward pass; the paper does so for the examples that it
    replays. Its published code divides the losses once more, by the square of the mean count, so
    that they hardly matter.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    require(refreshed_examples > 0, "buffer.refreshed_examples", "positive", refreshed_examples)
    slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        assert isinstance(arrivals.measurements, Measurements)
        new_losses = arrivals.measurements.arrival_losses_or_cosines
        losses = refreshed_losses(memory.scores, arrivals.measurements)
        group_of_slot = (memory.tasks * classes_per_task + memory.class_in_task).clamp_min(0)
        new_groups = arrivals.tasks * classes_per_task + arrivals.class_in_task
        arrival_of_slot = torch.full_like(memory.rows, -1)
        device_slots = slots.to(losses.device)
        for number, (admission_draw, slot_draw) in enumerate(
            arrivals.random_numbers.double().unbind()
        ):
            arrived = memory.counters[0] + number
            group_counts = losses.new_zeros(tasks * classes_per_task).scatter_add(
                0, group_of_slot, torch.ones_like(losses)
            )
            weights = replacement_weights(take_rows(group_counts, group_of_slot), losses)
            drawn = device_slots == draw_slot(weights, slot_draw)
            admitted = (admission_draw * (arrived + 1)).long() < total
            replaced = torch.where(arrived < total, device_slots == arrived, drawn & admitted)
            losses = torch.where(replaced, new_losses[number], losses)
            group_of_slot = torch.where(replaced, new_groups[number], group_of_slot)
            arrival_of_slot = torch.where(replaced, number, arrival_of_slot)
        written = write_chosen_arrivals(memory, arrival_of_slot, arrivals)
        counters = memory.counters + len(arrivals.rows)
        return written._replace(scores=losses, counters=counters)

    return Buffer(
        init=lambda: empty_memory(total, 1, has_scores=True),
        insert=insert,
        end_task=keep_memory,
        task_slots=slots.expand(tasks, -1),
        measures="losses",
        measured_examples=refreshed_examples,
        uniforms_per_arrival=2,
        needed_task_ids="of each",
    )
