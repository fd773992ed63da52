"""GSS-Greedy: examples whose gradients point apart (Aljundi et al. 2019, arXiv 1903.08671,
alg. 2)."""

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


def likeness(seen: Measurements) -> Tensor:
    """1 + the largest cosine [batch] of each arrival's gradient to that of a stored example; 1
    where none is stored."""
    largest = torch.where(seen.valid > 0, seen.of_arrivals, -torch.inf).amax(1)
    return torch.where((seen.valid > 0).any(), 1 + largest, 1.0).clamp_min(0)


def gss_greedy(capacity: int, capacity_per: str, tasks: int, classes: int, compared: int) -> Buffer:
    """While there is room, everything is kept, with its likeness as score. Then an example whose
    cosines are all negative meets a stored one, drawn by score, and takes its slot with probability
    C / (C + c), of the stored score C and its own c.

    compared: how many stored examples are drawn to compare the arrivals of a step with; the paper
    draws them anew for each arrival. Costs the gradients of all of these, one by one.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes)
    require(compared > 0, "buffer.compared", "positive", compared)
    slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        assert isinstance(arrivals.measurements, Measurements)
        own, held = likeness(arrivals.measurements), (memory.rows >= 0).sum()
        score, source = memory.scores, torch.full_like(memory.rows, -1)
        here = slots.to(score.device)
        for number, (which, whether) in enumerate(arrivals.uniform.double().unbind()):
            rival = here == draw_slot(score, which)
            theirs = (score * rival).sum()
            wins = (own[number] < 1) & (whether * (theirs + own[number]) < theirs)
            room = held + number < total
            taken = torch.where(room, here == held + number, rival & wins)
            score = torch.where(taken, own[number], score)
            source = torch.where(taken, number, source)
        return write_from_sources(memory, source, arrivals)._replace(scores=score)

    return Buffer(
        lambda: empty_memory(total, 0, scored=True),
        insert,
        keep_memory,
        slots.expand(tasks, -1),
        measures="cosines",
        measured_examples=compared,
        uniforms_per_arrival=2,
    )
