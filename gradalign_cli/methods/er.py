"""Experience replay: train on new and remembered examples together (Chaudhry et al. 2019)."""

from typing import Any

from torch import Tensor

from gradalign_cli.methods.method import Method, Trial, batch_loss, joined, keep_gradient
from gradalign_cli.models.model import Output


def er() -> Method:
    """The mean cross-entropy over new and remembered examples together (arXiv 1902.10486, alg. 1).

    Where fewer examples are remembered than the memory batch holds, the mean is over those there.
    """

    def objective(trial: Trial, state: Any) -> tuple[Tensor, Output]:
        (memory,) = trial.memories
        return batch_loss(trial._replace(batch=joined(trial.batch, memory)), state)

    return Method(keep_gradient, objective=objective, replays=1)
