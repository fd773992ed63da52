"""Rounds: replicas train together as far as memory and their tasks allow, the rest follow."""

import math
import os
from collections.abc import Sequence

import numpy as np
import torch

from gradalign_cli.buffers.measures import FEW
from gradalign_cli.errors import require
from gradalign_cli.learner import Parts
from gradalign_cli.reading import shown_bytes, shows_once
from gradalign_cli.replica import Replica, new_learner
from gradalign_cli.runner import Outcome, reference_passes
from gradalign_cli.trees import evened, index, leaves, stack

SHARE = 0.8  # of the free memory that a run may plan with


def task_sizes(replica: Replica) -> tuple[int, ...]:
    """How many examples the replica's tasks have; only equal ones can be stacked."""
    return tuple(len(rows) for rows in replica.stream.train + replica.stream.test)


def rounds(replicas: Sequence[Replica], at_once: int) -> list[list[int]]:
    """The numbers of the replicas of each round: equal task sizes, at most `at_once` of them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, replica in enumerate(replicas):
        groups.setdefault(task_sizes(replica), []).append(number)
    return [
        group[first : first + at_once]
        for group in groups.values()
        for first in range(0, len(group), at_once)
    ]


def replicas_at_once(
    parts: Parts, replica: Replica, budget: float | None, device: torch.device
) -> int:
    """How many replicas a memory budget in GiB holds, at least one; null: most of what is free. One
    where a schedule decides for each when a task is over.

    A replica is counted with three copies of what it keeps (before, after and recorded), the images
    that are shown once a task and the gradients of its step. An estimate: activations and what a
    method comes to keep are left out.
    """
    require(budget is None or budget > 0, "memory_budget", "positive or null", budget)
    if parts.schedule:
        return 1
    kept = [*leaves(new_learner(parts, replica, device)), *leaves(replica.stream.view)]
    held = sum(leaf.numel() * leaf.element_size() for leaf in kept)
    last = parts.benchmark.tasks - 1
    shown = shown_bytes(parts, last) if shows_once(parts, last) else 0
    gradients = 2 * (1 + reference_passes(parts.method, last))
    if parts.buffer.wants == "cosines":
        gradients += FEW + parts.buffer.looks
    size = 3 * held + shown + gradients * 4 * sum(layer.size for layer in parts.model.layers)
    free = budget * 2**30 if budget else SHARE * free_bytes(device)
    return max(1, math.floor(free / size))


def free_bytes(device: torch.device) -> int:
    """Memory that nobody uses."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def join(outcomes: Sequence[Outcome], order: Sequence[int]) -> Outcome:
    """The outcome of all rounds; `order` names the replicas in the order in which they trained."""
    place = np.argsort(order)
    first = outcomes[0]
    learners = [index(o.learners, r) for o in outcomes for r in range(len(o.accuracy))]

    def together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
        there = [part for part in parts if part is not None]
        return np.concatenate(there)[place] if there else None

    return Outcome(
        np.concatenate([outcome.accuracy for outcome in outcomes])[place],
        together([outcome.own for outcome in outcomes]),
        together([outcome.learning for outcome in outcomes]),
        together([outcome.continual for outcome in outcomes]),
        first.moments,
        sum(outcome.training_seconds for outcome in outcomes),
        sum(outcome.evaluation_seconds for outcome in outcomes),
        sum(outcome.steps for outcome in outcomes),
        sum(outcome.backward_passes for outcome in outcomes),
        stack(evened([learners[number] for number in place])),
    )
