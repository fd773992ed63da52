"""EWC: a quadratic penalty around earlier solutions, weighted by Fisher information.

Kirkpatrick et al. 2017, eq. 3; the online form is Schwarz et al. 2018, eq. 8.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import penalised
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.vectors import mean_in_pieces, ratio_or_zero

FISHERS = ("sample", "batch")


class EWCState(NamedTuple):
    """strength, decay: [];  importance, anchor: [P]."""

    strength: Tensor
    decay: Tensor
    importance: Tensor
    anchor: Tensor


def ewc(
    strength: float, online: bool, decay: float | None, fisher: str, fisher_samples: int | None
) -> Method:
    """strength / 2 * sum_t sum_i F_ti (p_i - p_ti)^2 added to the loss.

    The sum over tasks is one quadratic: its weight is the sum of the F_t, its centre their weighted
    mean of the p_t, so two vectors `[P]` are kept however many tasks there are, without loss.
    online: only the latest solution is the centre, and earlier weights fade by `decay` a task; when
    None, the weight is the mean of the F_t, as in the code published with HAT (Serra et al. 2018).
    fisher: `sample` is the mean of the squared gradients of single examples; `batch` is the squared
    gradient of the mean loss, as GEM's published code has it.
    fisher_samples: how many examples of the task it is taken over; all when None.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(decay is None or 0 <= decay <= 1, "method.decay", "in [0, 1] or null", decay)
    require(fisher in FISHERS, "method.fisher", f"one of {', '.join(FISHERS)}", fisher)
    require(
        fisher_samples is None or fisher_samples > 0,
        "method.fisher_samples",
        "positive or null",
        fisher_samples,
    )

    def init(setting: MethodSetup) -> EWCState:
        fading = 1.0 if decay is None else decay
        numbers = setting.params.new_tensor(strength), setting.params.new_tensor(fading)
        return EWCState(*numbers, *torch.zeros(2, len(setting.params)))

    def end_task(state: EWCState, params: Tensor, probe: Probe) -> EWCState:
        rows = probe.rows[:fisher_samples]
        if fisher == "batch":
            new = probe.mean_gradient(cross_entropy, rows).square()
        else:
            new = mean_in_pieces(
                rows, lambda part: probe.sample_gradients(cross_entropy, part).square()
            )
        if online and decay is None:
            mean = state.importance + (new - state.importance) / (probe.task + 1)
            return state._replace(importance=mean, anchor=params)
        if online:
            return state._replace(importance=state.decay * state.importance + new, anchor=params)
        importance = state.importance + new
        anchor = state.anchor + ratio_or_zero(new, importance) * (params - state.anchor)
        return state._replace(importance=importance, anchor=anchor)

    return Method(keep_gradient, objective=penalised(0.5), init=init, end_task=end_task)
