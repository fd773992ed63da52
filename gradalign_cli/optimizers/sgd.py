"""Stochastic gradient descent, with momentum and weight decay as PyTorch defines them."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.optimizers.optimizer import Optimizer


def sgd(momentum: float, weight_decay: float) -> Optimizer:
    """velocity = momentum * velocity + direction + weight_decay * params; params -= lr * velocity.

    Momentum and weight decay act after the alignment and can break its constraint (README, "What to
    watch for"), so the yaml sets both to 0.
    """
    require(0 <= momentum < 1, "optimizer.momentum", "in [0, 1)", momentum)
    require(weight_decay >= 0, "optimizer.weight_decay", "non-negative", weight_decay)

    def init(params: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(params),) if momentum else ()

    def update(direction: Tensor, state: Any, params: Tensor, lr: Tensor) -> tuple[Tensor, Any]:
        if weight_decay:
            direction = direction + weight_decay * params
        if momentum:
            direction = momentum * state[0] + direction
            state = (direction,)
        return torch.addcmul(params, direction, lr, value=-1), state

    return Optimizer(init, update, is_plain_sgd=not momentum and not weight_decay)
