"""Experience replay: train on new and stored examples together (Chaudhry et al. 2019)."""

from typing import Any

from torch import Tensor

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.methods.method import LossInputs, Method, batch_cross_entropy, keep_gradient
from gradalign_cli.models.model import Output


def er() -> Method:
    """The mean cross-entropy over the batch and a memory batch together (arXiv 1902.10486, alg. 1).

    Where the memory holds fewer examples than the memory batch, the mean is over those it holds
    and the batch.
    """

    def objective(inputs: LossInputs, state: Any) -> tuple[Tensor, Output]:
        (memory_batch,) = inputs.memory_batches
        batch = concatenate_examples(inputs.batch, memory_batch)
        return batch_cross_entropy(inputs._replace(batch=batch), state)

    return Method(keep_gradient, objective=objective, memory_batches=1)
