"""Stochastic gradient descent, with momentum and weight decay as PyTorch defines them."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.errors import require, require_choice
from gradalign_cli.optimizers.optimizer import AtTaskEnd, Optimizer


# configs of earlier versions do not have the settings with defaults
def sgd(
    momentum: float, weight_decay: float, nesterov: bool = False, at_task_end: AtTaskEnd = "keep"
) -> Optimizer:
    """gradient += weight_decay * params; velocity = momentum * velocity + gradient; the update is
    the velocity, or with `nesterov` gradient + momentum * velocity.

    Momentum and weight decay act after the alignment and can break its constraint (README, "What to
    watch for"), so the yaml sets both to 0.
    """
    require(0 <= momentum < 1, "optimizer.momentum", "in [0, 1)", momentum)
    require(weight_decay >= 0, "optimizer.weight_decay", "non-negative", weight_decay)
    require(momentum > 0 or not nesterov, "optimizer.nesterov", "false without momentum", nesterov)
    require_choice(AtTaskEnd, "optimizer.at_task_end", at_task_end)

    def init(params: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(params),) if momentum else ()

    def update(gradient: Tensor, state: Any, params: Tensor) -> tuple[Tensor, Any]:
        if weight_decay:
            gradient = gradient + weight_decay * params
        if not momentum:
            return gradient, state
        velocity = momentum * state[0] + gradient
        return gradient + momentum * velocity if nesterov else velocity, (velocity,)

    return Optimizer(init, update, not momentum and not weight_decay, at_task_end)
