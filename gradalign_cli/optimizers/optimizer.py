"""What an optimizer is: pure functions on flat vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Optimizer(NamedTuple):
    """init: (params) -> state;  update: (direction, state, params, lr) -> (params, state).

    plain: whether the change is the direction times -lr, so that a constraint kept by the direction
    is kept by the step.
    """

    init: Callable[[Tensor], Any]
    update: Callable[[Tensor, Any, Tensor, Tensor], tuple[Tensor, Any]]
    is_plain_sgd: bool
