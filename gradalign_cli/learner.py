"""What a run is made of, and all that changes in it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Examples, View
from gradalign_cli.buffers.buffer import Buffer, Memory
from gradalign_cli.draws import Draw
from gradalign_cli.methods.method import Method
from gradalign_cli.models.model import Model, Network, Output
from gradalign_cli.optimizers.optimizer import Optimizer
from gradalign_cli.schedules.schedule import Schedule


class Learner(NamedTuple):
    """All that changes in training: params [P], statistics [S], and three states."""

    params: Tensor
    statistics: Tensor
    optimizer: Any
    method: Any
    memory: Memory


class Trace(NamedTuple):
    """What one step shows of the alignment, each []; NaN where nothing was measured.

    loss: the objective;  ref_loss: mean loss on the memory;  cosine: the smallest between g and a
    reference;  violated: 1 if a dot product of g and a reference is negative;  norm_ratio:
    |direction| / |g|;  broken: 1 if the applied change has a positive dot product with a reference,
    beyond rounding.
    """

    loss: Tensor
    ref_loss: Tensor
    cosine: Tensor
    violated: Tensor
    norm_ratio: Tensor
    broken: Tensor


class Parts(NamedTuple):
    """What a run is made of; schedule: None where steps are of one size and no pass is left out."""

    benchmark: Benchmark
    model: Model
    method: Method
    buffer: Buffer
    optimizer: Optimizer
    memory_batch: int | None
    schedule: Schedule | None = None


Step = Callable[[Learner, Draw, View], tuple[Learner, Trace]]


def make_network(model: Model, training: bool) -> Network:
    """The model as a function of examples."""

    def network(params: Tensor, statistics: Tensor, examples: Examples) -> Output:
        return model.apply(params, statistics, examples.x, training, examples.noise)

    return network
