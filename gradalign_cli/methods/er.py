"""Experience replay: train on new and remembered examples together (Chaudhry et al. 2019)."""

from typing import Any

from torch import Tensor

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.methods.method import LossInputs, Method, batch_cross_entropy, keep_gradient
from gradalign_cli.models.model import Output


def er() -> Method:
    """The mean cross-entropy over new and remembered examples together (arXiv 1902.10486, alg. 1).

    Where fewer examples are remembered than the memory batch holds, the mean is over those there.
    """

    def objective(trial: LossInputs, state: Any) -> tuple[Tensor, Output]:
        (memory,) = trial.memory_batches
        return batch_cross_entropy(
            trial._replace(batch=concatenate_examples(trial.batch, memory)), state
        )

    return Method(keep_gradient, objective=objective, memory_batches=1)
