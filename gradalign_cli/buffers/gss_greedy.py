"""GSS-Greedy: examples whose gradients point apart (Aljundi et al. 2019, arXiv 1903.08671,
alg. 2)."""

from typing import Literal

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
from gradalign_cli.errors import require, require_choice

Admission = Literal["example", "batch"]


def similarity_scores(cosines: Tensor, valid: Tensor, score_if_none_stored: float) -> Tensor:
    """The score [...] of gradients: 1 + the largest of their cosines [..., n] with those of stored
    examples, at least 0; `score_if_none_stored` where no example is stored.
    valid: [n] 0 for padding."""
    largest = torch.where(valid > 0, cosines, -torch.inf).amax(-1)
    return torch.where((valid > 0).any(), 1 + largest, score_if_none_stored).clamp_min(0)


def admission_scores(
    measurements: Measurements, arrival_scores: Tensor, admission: Admission
) -> Tensor:
    """The score [batch] that says whether an arrival may compete, and that it has while slots are
    empty; arrival_scores: [batch];  admission: see `gss_greedy`."""
    if admission == "example":
        return arrival_scores
    assert isinstance(measurements.batch_gradient_cosines, Tensor)
    # 0.1 is what the published code gives the first batch
    score = similarity_scores(measurements.batch_gradient_cosines, measurements.stored_valid, 0.1)
    return score.expand_as(arrival_scores)


def decide_on_arrivals(
    scores: Tensor,
    filled: Tensor,
    first_scores: Tensor,
    new_scores: Tensor,
    random_numbers: Tensor,
) -> tuple[Tensor, Tensor]:
    """The scores [capacity] after all arrivals, and the number of the arrival that each slot takes,
    -1 where it takes none.

    scores: [capacity] of the stored examples;  filled: [] the number of filled slots;
    first_scores, new_scores: [batch] of an arrival while slots are empty, and when it competes;
    random_numbers: [batch, 2] that draw its rival and whether it wins.
    """
    total = len(scores)
    scores = torch.cat([scores, scores[:1]])  # and a slot that is none, for those that lose
    numbers = torch.arange(len(new_scores), device=scores.device)
    has_room = filled + numbers < total
    arrival_of_slot = torch.full_like(scores, -1, dtype=torch.long)
    slot_draws, win_draws = random_numbers.double().unbind(1)
    columns = (
        numbers,
        slot_draws,
        win_draws,
        new_scores,
        (first_scores < 1) & ~has_room,
        torch.where(has_room, filled + numbers, total),
        torch.where(has_room, first_scores, new_scores).to(scores.dtype),
    )
    for number, slot_draw, win_draw, new_score, may_win, slot_if_not, score in zip(
        *(column.split(1) for column in columns), strict=True
    ):
        rival = draw_slot(scores[:total], slot_draw)[None]
        rival_score = scores.gather(0, rival)
        wins = may_win & (win_draw * (rival_score + new_score) < rival_score)
        slot = torch.where(wins, rival, slot_if_not)
        scores = scores.scatter(0, slot, score)
        arrival_of_slot = arrival_of_slot.scatter(0, slot, number)
    return scores[:total], arrival_of_slot[:total]


def gss_greedy(
    capacity: int,
    capacity_per: CapacityUnit,
    tasks: int,
    classes_per_task: int,
    compared_examples: int,
    admission: Admission,
) -> Buffer:
    """While slots are empty, every example is stored with its score. After that an example with
    negative cosines only, which has a score c < 1, competes with a stored example that is drawn in
    proportion to its score C, and takes its slot with probability C / (C + c).

    compared_examples: how many stored examples are drawn in each step to compare its arrivals with;
    the paper draws them anew for each arrival. A step takes the gradients of all arrivals and of
    these examples, one by one.
    admission: `example` is that. With `batch`, the score of the arrivals' mean gradient is that of
    each of them while slots are empty, and all of them compete, each with its own score, where it
    is below 1: so does DER's published code.
    """
    require_choice(Admission, "buffer.admission", admission)
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    require(compared_examples > 0, "buffer.compared_examples", "positive", compared_examples)
    slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        assert isinstance(arrivals.measurements, Measurements)
        measured = arrivals.measurements
        new_scores = similarity_scores(
            measured.arrival_losses_or_cosines, measured.stored_valid, 1.0
        )
        first_scores = admission_scores(measured, new_scores, admission)
        filled = (memory.rows >= 0).sum()
        scores, arrival_of_slot = decide_on_arrivals(
            memory.scores, filled, first_scores, new_scores, arrivals.random_numbers
        )
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
