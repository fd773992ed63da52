"""Groups of replicas: they train together as far as memory and their tasks allow, one group after
the other."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from gradalign_cli.engines.engine import Engine
from gradalign_cli.errors import UserError
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.checkpoints import Checkpoints, SavedRun
from gradalign_cli.training.continual_tests import ContinualTests
from gradalign_cli.training.learning_curve import LearningCurve
from gradalign_cli.training.outcome import Outcome, join_outcomes
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.position import Position, on_device, position_template
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.runner import run
from gradalign_cli.training.watcher import State, Watcher, WholeRunWatcher

ReplicaNumbers = list[int]  # of the replicas of a group


def train_and_test_sizes(replica: Replica) -> tuple[int, ...]:
    """How many training and test examples the replica's tasks have; only replicas with equal ones
    can be stacked."""
    return tuple(len(rows) for rows in replica.stream.train_rows + replica.stream.test_rows)


def replica_groups(replicas: Sequence[Replica], replicas_at_once: int) -> list[ReplicaNumbers]:
    """The numbers of the replicas of each group: equal task sizes, at most `replicas_at_once` of
    them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, replica in enumerate(replicas):
        groups.setdefault(train_and_test_sizes(replica), []).append(number)
    return [
        group[first : first + replicas_at_once]
        for group in groups.values()
        for first in range(0, len(group), replicas_at_once)
    ]


class ReplicaGroupsState(NamedTuple):
    """What a run goes on with.

    outcomes, replica_order: of the groups that are finished;  todo: the numbers of the replicas of
    the other groups, the present one first;  position: in the present group;  watcher_states: of
    all watchers, those of the group behind those of all groups.
    """

    outcomes: list[Outcome]
    replica_order: list[int]
    todo: list[ReplicaNumbers]
    position: Position
    watcher_states: list[State]


def train_replica_groups(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: TrainingPlan,
    watchers: Sequence[WholeRunWatcher],
    groups: Sequence[ReplicaNumbers],
    checkpoints: Checkpoints | None = None,
    saved_run: SavedRun | None = None,
) -> Outcome:
    """Train the replicas group by group, in smaller groups where memory runs out.

    saved_run: where the run goes on, in place of the groups.
    """
    outcomes: list[Outcome] = []
    replica_order: list[int] = []
    todo, resumed = [list(numbers) for numbers in groups], None
    if saved_run:
        resumed = read_replica_groups_state(saved_run, parts, replicas, engine)
        outcomes, replica_order, todo = resumed[:3]

    def save(position: Position, group_watchers: Sequence[Watcher]) -> None:
        def state() -> ReplicaGroupsState:
            states = [watcher.state() for watcher in group_watchers]
            return ReplicaGroupsState(outcomes, replica_order, [numbers, *todo], position, states)

        if checkpoints:
            checkpoints.save(position.step == 0, state)

    while todo:
        numbers = todo.pop(0)
        for watcher in watchers if resumed is None else ():
            watcher.begin_replica_group(numbers)
        problem = None
        try:
            members = [replicas[n] for n in numbers]
            outcomes.append(
                train_replica_group(parts, members, engine, plan, watchers, resumed, save)
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
        resumed = None
        for watcher in watchers:
            watcher.end_replica_group(problem)
    return join_outcomes(outcomes, replica_order)


def read_replica_groups_state(
    saved_run: SavedRun, parts: Parts, replicas: Sequence[Replica], engine: Engine
) -> ReplicaGroupsState:
    """What was saved, with the learners on the engine's device."""
    template = position_template(parts, replicas[:1], engine)
    nothing = [None] * (len(Outcome._fields) - 1)
    outcome = Outcome._make([*nothing, template.learners])
    state: ReplicaGroupsState = saved_run.state(ReplicaGroupsState([outcome], [], [], template, []))
    return state._replace(position=on_device(state.position, engine.device))


def train_replica_group(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: TrainingPlan,
    watchers: Sequence[Watcher],
    resumed_state: ReplicaGroupsState | None = None,
    save_position: Callable[[Position, Sequence[Watcher]], None] = lambda position, watchers: None,
) -> Outcome:
    """Train replicas together, with the tests between steps that the plan asks for.

    resumed_state: where the group goes on;  save_position: is told of every position with all
    watchers.
    """
    curve = LearningCurve(plan.lca_batches)
    continual = ContinualTests(plan.continual_every, plan.continual_samples)
    all_watchers = [*watchers, continual, curve]
    if resumed_state:
        for watcher, state in zip(all_watchers, resumed_state.watcher_states, strict=True):
            watcher.restore(state)
    start = resumed_state.position if resumed_state else None
    trained = run(
        *(parts, replicas, engine, plan, all_watchers, start),
        lambda position: save_position(position, all_watchers),
    )
    return Outcome(
        trained.accuracy_matrices[0],
        trained.accuracy_matrices[1] if len(trained.accuracy_matrices) > 1 else None,
        curve.result(),
        continual.accuracy(),
        continual.replica_moments(len(replicas)),
        *trained[1:],
    )
