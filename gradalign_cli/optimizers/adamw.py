"""AdamW: Adam whose weight decay does not go through the moments (Loshchilov & Hutter 2019,
alg. 2), as PyTorch defines it."""

from torch import Tensor

from gradalign_cli.numerics.moments import Moments, adam_update, no_moments
from gradalign_cli.optimizers.adam import check_adam
from gradalign_cli.optimizers.optimizer import AtTaskEnd, Optimizer


def adamw(
    beta1: float, beta2: float, eps: float, weight_decay: float, at_task_end: AtTaskEnd
) -> Optimizer:
    """Adam's update of the gradient alone, plus weight_decay * params. The arguments are those of
    `adam`."""
    check_adam(beta1, beta2, eps, weight_decay, at_task_end)

    def update(gradient: Tensor, moments: Moments, params: Tensor) -> tuple[Tensor, Moments]:
        change, moments = adam_update(gradient, moments, (beta1, beta2), eps)
        return change + weight_decay * params, moments

    return Optimizer(no_moments, update, False, at_task_end)
