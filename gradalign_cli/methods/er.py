"""Experience replay: train on new and remembered examples together (Chaudhry et al. 2019)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import Reading
from gradalign_cli.methods.method import Loss, Method, keep_gradient


def er() -> Method:
    """The mean cross-entropy over new and remembered examples together (arXiv 1902.10486, alg. 1).

    Where fewer examples are remembered than the memory batch holds, the mean is over those there.
    """

    def objective(
        loss: Loss, params: Tensor, batch: Reading, memory: Reading, state: Any
    ) -> tuple[Tensor, Tensor]:
        both = Reading(*(torch.cat([new, old]) for new, old in zip(batch, memory, strict=True)))
        return loss(params, both)

    return Method(keep_gradient, objective=objective, replays=True)
