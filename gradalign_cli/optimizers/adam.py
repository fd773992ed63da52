"""Adam (Kingma & Ba 2015, alg. 1), as PyTorch defines it."""

from torch import Tensor

from gradalign_cli.errors import require, require_choice
from gradalign_cli.numerics.moments import Moments, adam_update, no_moments
from gradalign_cli.optimizers.optimizer import AtTaskEnd, Optimizer


def adam(
    beta1: float, beta2: float, eps: float, weight_decay: float, at_task_end: AtTaskEnd
) -> Optimizer:
    """The update is the mean of past gradients over the root of the mean of their squares, both
    without their bias towards 0; weight_decay * params is a part of each gradient.

    It acts after the alignment and can break its constraint (README, "What to watch for").
    beta1, beta2: how much of both means stays in a step.  eps: added to the root.
    """
    check_adam(beta1, beta2, eps, weight_decay, at_task_end)

    def update(gradient: Tensor, moments: Moments, params: Tensor) -> tuple[Tensor, Moments]:
        if weight_decay:
            gradient = gradient + weight_decay * params
        return adam_update(gradient, moments, (beta1, beta2), eps)

    return Optimizer(no_moments, update, False, at_task_end)


def check_adam(
    beta1: float, beta2: float, eps: float, weight_decay: float, at_task_end: str
) -> None:
    """Raise UserError where a setting of Adam or AdamW is out of its domain."""
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        require(0 <= beta < 1, f"optimizer.{name}", "in [0, 1)", beta)
    require(eps > 0, "optimizer.eps", "positive", eps)
    require(weight_decay >= 0, "optimizer.weight_decay", "non-negative", weight_decay)
    require_choice(AtTaskEnd, "optimizer.at_task_end", at_task_end)
