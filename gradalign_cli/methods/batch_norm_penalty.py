"""The quadratic penalty on BatchNorm's parameters, for methods that project all other layers.

It is EWC's (Kirkpatrick et al. 2017, eq. 3). The methods have it in their alignment, so that they
go with any loss.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, mask_logits
from gradalign_cli.methods.method import MethodSetup, Probe
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.trees import Absent, take_rows
from gradalign_cli.numerics.vectors import ratio_or_zero


class BatchNormPenaltyState(NamedTuple):
    """BatchNorm's B parameters, and the quadratic penalty on them.

    param_indices: [B] their places in the flat vector of parameters;  batch_norm_params: [B] their
    values;  strength: [] of the penalty;  importance, penalty_centre: [B] its weights and its
    centre.
    """

    param_indices: Tensor
    batch_norm_params: Tensor
    strength: Tensor
    importance: Tensor
    penalty_centre: Tensor


def initial_batch_norm_state(setup: MethodSetup, strength: float) -> BatchNormPenaltyState | Absent:
    """The state of BatchNorm's parameters, the entries of all layers without a matrix; absent where
    there are none."""
    params = setup.params
    if all(layer.matrix_rows for layer in setup.layers):
        return ()
    sizes = [layer.size for layer in setup.layers]
    parts = zip(torch.arange(sum(sizes)).split(sizes), setup.layers, strict=True)
    norm_parts = [part for part, layer in parts if not layer.matrix_rows]
    param_indices = torch.cat(norm_parts).to(params.device)
    norm_params = params[param_indices]
    importance, centre = torch.zeros_like(norm_params), torch.zeros_like(norm_params)
    return BatchNormPenaltyState(
        param_indices, norm_params, params.new_tensor(strength), importance, centre
    )


def add_penalty_gradient(g: Tensor, penalty: BatchNormPenaltyState | Absent) -> Tensor:
    """g [P] + the gradient of strength * sum_i importance_i (p_i - centre_i)^2 over BatchNorm's
    parameters p."""
    if not isinstance(penalty, BatchNormPenaltyState):
        return g
    displacement = penalty.batch_norm_params - penalty.penalty_centre
    return g.index_add(
        0, penalty.param_indices, 2 * penalty.strength * penalty.importance * displacement
    )


def with_current_batch_norm(
    penalty: BatchNormPenaltyState | Absent, params: Tensor
) -> BatchNormPenaltyState | Absent:
    """The state with BatchNorm's parameters out of all parameters [P], since `align` sees none."""
    if not isinstance(penalty, BatchNormPenaltyState):
        return penalty
    return penalty._replace(batch_norm_params=take_rows(params, penalty.param_indices))


def predicted_class_cross_entropy(logits: Tensor, examples: Examples) -> Tensor:
    """The mean cross-entropy [] of logits [n, outputs] with the classes that they predict."""
    predictions = mask_logits(logits, examples.visible_logit_mask).argmax(1)
    return cross_entropy(logits, examples._replace(target=predictions))


def end_batch_norm_task(
    penalty: BatchNormPenaltyState | Absent, probe: Probe, rows: Tensor, importance_batch_size: int
) -> BatchNormPenaltyState | Absent:
    """The state after a task has ended: the penalties of all ended tasks together are one, as in
    `ewc`. A batch of rows [n] has at least `importance_batch_size` examples, where there are as
    many."""
    if not isinstance(penalty, BatchNormPenaltyState):
        return penalty
    batches = rows.tensor_split(max(len(rows) // importance_batch_size, 1))
    squares = [
        len(part)
        * probe.mean_gradient(predicted_class_cross_entropy, part)[penalty.param_indices].square()
        for part in batches
    ]
    task_importance = torch.stack(squares).mean(0)
    importance = penalty.importance + task_importance
    share = ratio_or_zero(task_importance, importance)
    centre = penalty.penalty_centre + share * (penalty.batch_norm_params - penalty.penalty_centre)
    return penalty._replace(importance=importance, penalty_centre=centre)
