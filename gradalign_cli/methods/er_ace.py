"""ER-ACE: replay whose new examples compete with new classes only (Caccia et al. 2022, eq. 6)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import (
    Method,
    Trial,
    cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.model import Output


def er_ace() -> Method:
    """Cross-entropy of the batch over the classes in it + of a memory batch over all classes.

    So old classes are not pushed down by every example that is not theirs.
    """

    def objective(trial: Trial, state: Any) -> tuple[Tensor, Output]:
        batch, (memory,) = trial.batch, trial.memories
        output = trial.network(trial.params, trial.statistics, batch)
        old = trial.network(trial.params, output.statistics, memory)
        places = torch.arange(output.logits.shape[1], device=batch.label.device)
        present = (batch.label[:, None] == places).any(0).expand_as(output.logits)
        here = present & batch.visible if isinstance(batch.visible, Tensor) else present
        value = cross_entropy(output.logits, batch._replace(visible=here))
        value = value + cross_entropy(old.logits, memory)
        return value, output._replace(statistics=old.statistics)

    return Method(keep_gradient, objective=objective, replays=1)
