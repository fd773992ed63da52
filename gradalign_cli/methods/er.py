"""Experience replay: train on new and remembered examples together (Chaudhry et al. 2019)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method, Trial, batch_loss, keep_gradient
from gradalign_cli.models.model import Output
from gradalign_cli.trees import tree_map


def er() -> Method:
    """The mean cross-entropy over new and remembered examples together (arXiv 1902.10486, alg. 1).

    Where fewer examples are remembered than the memory batch holds, the mean is over those there.
    """

    def objective(trial: Trial, state: Any) -> tuple[Tensor, Output]:
        (memory,) = trial.memories
        both = tree_map(lambda new, old: torch.cat([new, old]), trial.batch, memory)
        return batch_loss(trial._replace(batch=both), state)

    return Method(keep_gradient, objective=objective, replays=1)
