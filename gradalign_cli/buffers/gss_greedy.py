"""GSS-Greedy: examples whose gradients point apart (Aljundi et al. 2019, arXiv 1903.08671,
alg. 2)."""

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


def similarity_scores(measurements: Measurements) -> Tensor:
    """The score [batch] of each arrival: 1 + the largest cosine between its gradient and that of a
    stored example, at least 0; 1 where no example is stored."""
    valid = measurements.valid > 0
    largest = torch.where(valid, measurements.of_arrivals, -torch.inf).amax(1)
    return torch.where(valid.any(), 1 + largest, 1.0).clamp_min(0)


def gss_greedy(
    capacity: int,
    capacity_per: CapacityUnit,
    tasks: int,
    classes_per_task: int,
    compared_examples: int,
) -> Buffer:
    """While slots are empty, every example is stored with its score. After that an example with
    negative cosines only, which has a score c < 1, competes with a stored example that is drawn in
    proportion to its score C, and takes its slot with probability C / (C + c).

    compared_examples: how many stored examples are drawn in each step to compare its arrivals with;
    the paper draws them anew for each arrival. A step takes the gradients of all arrivals and of
    these examples, one by one.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    require(compared_examples > 0, "buffer.compared_examples", "positive", compared_examples)
    slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        assert isinstance(arrivals.measurements, Measurements)
        new_scores = similarity_scores(arrivals.measurements)
        filled = (memory.rows >= 0).sum()
        scores, arrival_of_slot = memory.scores, torch.full_like(memory.rows, -1)
        device_slots = slots.to(scores.device)
        for number, (slot_draw, win_draw) in enumerate(arrivals.random_numbers.double().unbind()):
            rival = device_slots == draw_slot(scores, slot_draw)
            rival_score = (scores * rival).sum()
            wins = (new_scores[number] < 1) & (
                win_draw * (rival_score + new_scores[number]) < rival_score
            )
            has_room = filled + number < total
            replaced = torch.where(has_room, device_slots == filled + number, rival & wins)
            scores = torch.where(replaced, new_scores[number], scores)
            arrival_of_slot = torch.where(replaced, number, arrival_of_slot)
        return write_chosen_arrivals(memory, arrival_of_slot, arrivals)._replace(scores=scores)

    return Buffer(
        init=lambda: empty_memory(total, 0, has_scores=True),
        insert=insert,
        end_task=keep_memory,
        task_slots=slots.expand(tasks, -1),
        measures="cosines",
        measured_examples=compared_examples,
        uniforms_per_arrival=2,
    )
