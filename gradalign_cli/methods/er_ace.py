"""ER-ACE: replay whose new examples compete with new classes only (Caccia et al. 2022, eq. 6)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import LossInputs, Method, keep_gradient
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Output


def er_ace() -> Method:
    """Cross-entropy of the batch over the classes in it + of a memory batch over all classes.

    So old classes are not pushed down by every example that is not theirs.
    """

    def objective(trial: LossInputs, state: Any) -> tuple[Tensor, Output]:
        batch, (memory,) = trial.batch, trial.memory_batches
        output = trial.network(trial.params, trial.statistics, batch)
        old = trial.network(trial.params, output.statistics, memory)
        places = torch.arange(output.logits.shape[1], device=batch.target.device)
        present = (batch.target[:, None] == places).any(0).expand_as(output.logits)
        here = (
            present & batch.visible_logits if isinstance(batch.visible_logits, Tensor) else present
        )
        value = cross_entropy(output.logits, batch._replace(visible_logits=here))
        value = value + cross_entropy(old.logits, memory)
        return value, output._replace(statistics=old.statistics)

    return Method(keep_gradient, objective=objective, memory_batches=1)
