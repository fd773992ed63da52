"""What a run is made of, and all that changes in it."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.augmentations.augmentation import Augmentation
from gradalign_cli.benchmarks.benchmark import Benchmark
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.buffers.buffer import Buffer, Memory
from gradalign_cli.methods.method import Method
from gradalign_cli.models.model import Model, Network, Output
from gradalign_cli.optimizers.optimizer import Optimizer
from gradalign_cli.schedules.schedule import Schedule


class Learner(NamedTuple):
    """All that changes in training: the network's params [P] and statistics [S] (of BatchNorm), the
    states of optimizer and method, and the memory."""

    params: Tensor
    statistics: Tensor
    optimizer_state: Any
    method_state: Any
    memory: Memory


AlignedVector = Literal["gradient", "update"]  # what the optimizer gets, or what it gives


class Parts(NamedTuple):
    """What a run is made of.

    memory_batch_size: examples that a reference or a replayed batch reads from memory, all where
    None;  schedule: None where all steps have one size and no pass is left out;  augmentation: of
    the images that are trained on, None where they stay as they are;  aligned_vector: what the
    method aligns.
    """

    benchmark: Benchmark
    model: Model
    method: Method
    buffer: Buffer
    optimizer: Optimizer
    memory_batch_size: int | None
    schedule: Schedule | None = None
    augmentation: Augmentation | None = None
    aligned_vector: AlignedVector = "gradient"


def make_network(model: Model, training: bool) -> Network:
    """The model as a function of parameters, statistics and examples.

    training: BatchNorm uses the batch's statistics and moves the running ones, dropout drops. A
    pass over padding alone moves none.
    """
    moves_statistics = training and len(model.initial_statistics) > 0

    def network(params: Tensor, statistics: Tensor, examples: Examples) -> Output:
        output = model.apply(params, statistics, examples.images, training, examples.noise_keys)
        if not moves_statistics or not isinstance(examples.valid, Tensor):
            return output
        moved = torch.where(examples.valid.any(), output.statistics, statistics)
        return output._replace(statistics=moved)

    return network
