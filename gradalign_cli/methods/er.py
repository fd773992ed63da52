"""Experience replay: train on new and remembered examples together (Chaudhry et al. 2019)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Examples
from gradalign_cli.methods.method import Memories, Method, batch_loss, keep_gradient
from gradalign_cli.models.model import Network, Output
from gradalign_cli.trees import tree_map


def er() -> Method:
    """The mean cross-entropy over new and remembered examples together (arXiv 1902.10486, alg. 1).

    Where fewer examples are remembered than the memory batch holds, the mean is over those there.
    """

    def objective(
        network: Network,
        params: Tensor,
        statistics: Tensor,
        batch: Examples,
        memories: Memories,
        state: Any,
    ) -> tuple[Tensor, Output]:
        both = tree_map(lambda new, old: torch.cat([new, old]), batch, memories[0])
        return batch_loss(network, params, statistics, both, memories, state)

    return Method(keep_gradient, objective=objective, replays=1)
