"""What the training of all replicas gives, put together from its rounds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_stack
from gradalign_cli.step.learner import Learner


class Outcome(NamedTuple):
    """accuracy: [R, T + 1, T];  own: the same with each task's own logits alone, where a run is
    class-incremental, or None;  learning: [R, T, lca_batches + 1] or None;  continual: [R, S, T]
    accuracy on samples, NaN on tasks to come, or None;  moments: [S, 2] task and step of its rows;
    seconds, those of a schedule's looks among the evaluation, steps, and backward passes of all
    replicas together;  learners: [R, ...] as they ended."""

    accuracy: np.ndarray
    own_logits_accuracy: np.ndarray | None
    learning_curves: np.ndarray | None
    continual_accuracy: np.ndarray | None
    continual_moments: np.ndarray
    training_seconds: float
    evaluation_seconds: float
    steps: int
    backward_passes: int
    learners: Learner


def join(outcomes: Sequence[Outcome], order: Sequence[int]) -> Outcome:
    """The outcome of all rounds; `order` names the replicas in the order in which they trained."""
    place = np.argsort(order)
    learners = [tree_index(o.learners, r) for o in outcomes for r in range(len(o.accuracy))]

    def together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
        arrays = [part for part in parts if part is not None]
        return np.concatenate(arrays)[place] if arrays else None

    return Outcome(
        np.concatenate([outcome.accuracy for outcome in outcomes])[place],
        together([outcome.own_logits_accuracy for outcome in outcomes]),
        together([outcome.learning_curves for outcome in outcomes]),
        together([outcome.continual_accuracy for outcome in outcomes]),
        outcomes[0].continual_moments,
        sum(outcome.training_seconds for outcome in outcomes),
        sum(outcome.evaluation_seconds for outcome in outcomes),
        sum(outcome.steps for outcome in outcomes),
        sum(outcome.backward_passes for outcome in outcomes),
        tree_stack(pad_to_common_shapes([learners[number] for number in place])),
    )
