"""Rounds: replicas train together as far as memory and their tasks allow, the rest follow."""

from collections.abc import Sequence

import torch

from gradalign_cli.engines.engine import Engine
from gradalign_cli.errors import UserError
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.continual_tests import ContinualTests
from gradalign_cli.training.learning_curve import LearningCurve
from gradalign_cli.training.outcome import Outcome, join_outcomes
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.runner import run
from gradalign_cli.training.watcher import Watcher, WatcherOfAllRounds


def task_sizes(replica: Replica) -> tuple[int, ...]:
    """How many examples the replica's tasks have; only equal ones can be stacked."""
    return tuple(len(rows) for rows in replica.stream.train_rows + replica.stream.test_rows)


def rounds(replicas: Sequence[Replica], replicas_at_once: int) -> list[list[int]]:
    """The numbers of the replicas of each round: equal task sizes, at most `replicas_at_once` of
    them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, replica in enumerate(replicas):
        groups.setdefault(task_sizes(replica), []).append(number)
    return [
        group[first : first + replicas_at_once]
        for group in groups.values()
        for first in range(0, len(group), replicas_at_once)
    ]


def train_in_rounds(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: Plan,
    watchers: Sequence[WatcherOfAllRounds],
    rounds: Sequence[Sequence[int]],
) -> Outcome:
    """Train the replicas round by round, in smaller rounds where memory runs out."""
    outcomes: list[Outcome] = []
    replica_order: list[int] = []
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
            replica_order += numbers
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
    return join_outcomes(outcomes, replica_order)


def train_round(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: Plan,
    watchers: Sequence[Watcher],
) -> Outcome:
    """Train replicas together, with the tests between steps that the plan asks for."""
    curve = LearningCurve(plan.lca_batches)
    continual = ContinualTests(plan.continual_every, plan.continual_samples)
    trained = run(parts, replicas, engine, plan, [*watchers, continual, curve])
    return Outcome(
        trained.accuracy_matrices[0],
        trained.accuracy_matrices[1] if len(trained.accuracy_matrices) > 1 else None,
        curve.result(),
        continual.accuracy(),
        continual.moments_of(len(replicas)),
        *trained[1:],
    )
