"""What the training of all replicas gives, put together from its groups."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_stack
from gradalign_cli.step.learner import Learner


class Outcome(NamedTuple):
    """The results of R replicas on T tasks.

    accuracy: [R, T + 1, T], row 0 of the untrained network.
    task_logits_accuracy: the same with each task's own logits alone; None unless the run is
    class-incremental.
    learning_curves: [R, T, lca_batches + 1] accuracy on a task after 0, 1, ... batches of it.
    continual_accuracy: of each replica [S, T] on samples between the steps, NaN on tasks to come; S
    differs where tasks are of different length.
    continual_moments: of each replica [S, 2] task and step of each row.
    Seconds, steps and backward passes are of all replicas together; the held-out loss of a
    schedule counts as evaluation.
    learners: [R, ...] at the end.
    """

    accuracy: np.ndarray
    task_logits_accuracy: np.ndarray | None
    learning_curves: np.ndarray | None
    continual_accuracy: list[np.ndarray] | None
    continual_moments: list[np.ndarray]
    training_seconds: float
    evaluation_seconds: float
    steps: int
    backward_passes: int
    learners: Learner


def join_outcomes(outcomes: Sequence[Outcome], replica_order: Sequence[int]) -> Outcome:
    """The outcome of all groups of replicas; `replica_order` lists the replicas' numbers in the
    order of training."""
    place = np.argsort(replica_order)
    learners = [tree_index(o.learners, r) for o in outcomes for r in range(len(o.accuracy))]

    def together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
        arrays = [part for part in parts if part is not None]
        return np.concatenate(arrays)[place] if arrays else None

    def in_order(lists: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
        replicas = [array for arrays in lists for array in arrays]
        return [replicas[number] for number in place] if replicas else []

    return Outcome(
        np.concatenate([outcome.accuracy for outcome in outcomes])[place],
        together([outcome.task_logits_accuracy for outcome in outcomes]),
        together([outcome.learning_curves for outcome in outcomes]),
        in_order([o.continual_accuracy or [] for o in outcomes]) or None,
        in_order([o.continual_moments for o in outcomes]),
        sum(outcome.training_seconds for outcome in outcomes),
        sum(outcome.evaluation_seconds for outcome in outcomes),
        sum(outcome.steps for outcome in outcomes),
        sum(outcome.backward_passes for outcome in outcomes),
        tree_stack(pad_to_common_shapes([learners[number] for number in place])),
    )
