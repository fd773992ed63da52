"""What an optimizer is: pure functions on flat vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Optimizer(NamedTuple):
    """A rule that turns a direction into new parameters.

    init:         (params [P]) -> state.
    update:       (direction [P], state, params [P], lr []) -> (params [P], state).
    is_plain_sgd: whether params change by -lr times the direction, so that a constraint on the
                  direction also holds for the change of the parameters.
    """

    init: Callable[[Tensor], Any]
    update: Callable[[Tensor, Any, Tensor, Tensor], tuple[Tensor, Any]]
    is_plain_sgd: bool
