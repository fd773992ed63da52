"""How long a run trains and what is looked at on the way."""

from typing import NamedTuple

import torch

from gradalign_cli.models.model import Model
from gradalign_cli.numerics.devices import CPU

CHUNK = 100  # steps between two looks at the traces


class TrainingPlan(NamedTuple):
    """How long to train and what to look at on the way.

    passes:               passes over each task.
    batch_size:           examples of a step.
    measure_angles_every: the angles are measured every so many steps.
    lca_batches:          the current task is tested after each of so many first batches.
    continual_every:      the tasks so far are tested every so many steps; 0: they are not.
    continual_samples:    on so many examples of each test set.
    """

    passes: int
    batch_size: int
    measure_angles_every: int
    lca_batches: int
    continual_every: int = 0
    continual_samples: int = 0


def chunk_size(plan: TrainingPlan, model: Model, device: torch.device) -> int:
    """Steps that an engine takes at once. Traces are measured, and tests on the way come, where a
    chunk ends, so it is a multiple of theirs; steps of a convolutional network on a CPU are so slow
    that it is the smallest one."""
    if plan.continual_every:
        return plan.continual_every
    slow = model.convolutional and device == CPU
    every = plan.measure_angles_every
    return every if slow else every * -(-CHUNK // every)
