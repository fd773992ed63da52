"""ER-ACE: replay whose new examples compete with new classes only (Caccia et al. 2022, eq. 6)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Examples
from gradalign_cli.methods.method import (
    Memories,
    Method,
    batch_loss,
    cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.model import Network, Output


def er_ace() -> Method:
    """Cross-entropy of the batch over the classes in it + of a memory batch over all classes.

    So old classes are not pushed down by every example that is not theirs.
    """

    def objective(
        network: Network,
        params: Tensor,
        statistics: Tensor,
        batch: Examples,
        memories: Memories,
        state: Any,
    ) -> tuple[Tensor, Output]:
        output = network(params, statistics, batch)
        places = torch.arange(output.logits.shape[1], device=batch.label.device)
        present = (batch.label[:, None] == places).any(0).expand_as(output.logits)
        here = present & batch.visible if isinstance(batch.visible, Tensor) else present
        value, old = batch_loss(network, params, output.statistics, memories[0], (), state)
        value = value + cross_entropy(output.logits, batch._replace(visible=here))
        return value, output._replace(statistics=old.statistics)

    return Method(keep_gradient, objective=objective, replays=1)
