"""Rounds: replicas train together as far as memory and their tasks allow, the rest follow."""

import math
import os
from collections.abc import Sequence

import numpy as np
import torch

from gradalign_cli.buffers.measures import FEW
from gradalign_cli.engines.engine import Engine
from gradalign_cli.errors import UserError, require
from gradalign_cli.numerics.trees import tree_leaves
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import reference_image_bytes
from gradalign_cli.step.reference_examples import keeps_reference_cache
from gradalign_cli.training.continual_tests import ContinualTests
from gradalign_cli.training.learning_curve import LearningCurve
from gradalign_cli.training.outcome import Outcome, join
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import Replica, new_learner
from gradalign_cli.training.runner import run
from gradalign_cli.training.watcher import RoundWatcher, Watcher

SHARE = 0.8  # of the free memory that a run may plan with


def task_sizes(replica: Replica) -> tuple[int, ...]:
    """How many examples the replica's tasks have; only equal ones can be stacked."""
    return tuple(len(rows) for rows in replica.stream.train_rows + replica.stream.test_rows)


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
    kept = [*tree_leaves(new_learner(parts, replica, device)), *tree_leaves(replica.stream.view)]
    held = sum(leaf.numel() * leaf.element_size() for leaf in kept)
    last = parts.benchmark.tasks - 1
    cached = keeps_reference_cache(parts, last)
    shown = reference_image_bytes(parts, last) if cached else 0
    gradients = 2 * (1 + parts.method.reference_count(last))
    if parts.buffer.measures == "cosines":
        gradients += FEW + parts.buffer.measured_examples
    size = 3 * held + shown + gradients * 4 * sum(layer.size for layer in parts.model.layers)
    free = budget * 2**30 if budget else SHARE * free_bytes(device)
    return max(1, math.floor(free / size))


def free_bytes(device: torch.device) -> int:
    """Memory that nobody uses."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def train_in_rounds(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: Plan,
    watchers: Sequence[RoundWatcher],
    rounds: Sequence[Sequence[int]],
) -> Outcome:
    """Train the replicas round by round, in smaller rounds where memory runs out."""
    outcomes: list[Outcome] = []
    order: list[int] = []
    todo = list(rounds)
    while todo:
        numbers = todo.pop(0)
        for watcher in watchers:
            watcher.begin_round(numbers)
        problem = None
        try:
            outcomes.append(
                train_round(parts, [replicas[n] for n in numbers], engine, plan, watchers)
            )
            order += numbers
        except torch.OutOfMemoryError as error:
            if len(numbers) == 1:
                raise UserError(
                    "the device has too little memory for one replica: make `memory_batch`, "
                    "`buffer.capacity` or the model smaller"
                ) from error
            half = -(-len(numbers) // 2)
            problem = f"out of memory with {len(numbers)} replicas, going on with {half} at once"
            whole = [numbers, *todo]
            todo = [part[k : k + half] for part in whole for k in range(0, len(part), half)]
        for watcher in watchers:
            watcher.end_round(problem)
    return join(outcomes, order)


def train_round(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: Plan,
    watchers: Sequence[Watcher],
) -> Outcome:
    """Train replicas together, with the tests between steps that the plan asks for."""
    curve = LearningCurve(plan.lca_batches)
    between = ContinualTests(plan.continual_every, plan.continual_samples)
    trained = run(parts, replicas, engine, plan, [*watchers, between, curve])
    return Outcome(
        trained.matrices[0],
        trained.matrices[1] if len(trained.matrices) > 1 else None,
        curve.result(),
        between.result(),
        np.array(between.moments),
        *trained[1:],
    )
