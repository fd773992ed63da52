"""ER-ACE: replay whose new examples compete with new classes only (Caccia et al. 2022, eq. 6)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import LossInputs, Method, keep_gradient
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Output


def er_ace() -> Method:
    """The cross-entropy of the batch over the classes that occur in it, plus the cross-entropy of a
    memory batch over all classes.

    New examples then do not lower the logits of old classes.
    """

    def objective(inputs: LossInputs, state: Any) -> tuple[Tensor, Output]:
        batch, (memory_batch,) = inputs.batch, inputs.memory_batches
        output = inputs.network(inputs.params, inputs.statistics, batch)
        memory_output = inputs.network(inputs.params, output.statistics, memory_batch)
        logit_numbers = torch.arange(output.logits.shape[1], device=batch.target.device)
        in_batch = (batch.target[:, None] == logit_numbers).any(0).expand_as(output.logits)
        if isinstance(batch.visible_logit_mask, Tensor):
            in_batch = in_batch & batch.visible_logit_mask
        value = cross_entropy(output.logits, batch._replace(visible_logit_mask=in_batch))
        value = value + cross_entropy(memory_output.logits, memory_batch)
        return value, output._replace(statistics=memory_output.statistics)

    return Method(keep_gradient, objective=objective, memory_batches=1)
