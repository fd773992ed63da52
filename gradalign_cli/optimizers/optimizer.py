"""What an optimizer is: pure functions on flat vectors."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor

AtTaskEnd = Literal["keep", "reset"]
State = Any  # of an optimizer
Params = Tensor  # [P]
Gradient = Tensor  # [P]
Update = Tensor  # [P]


class Optimizer(NamedTuple):
    """A rule that turns a gradient into an update. A step changes the parameters by -lr times the
    update.

    init:         (params [P]) -> state.
    update:       (gradient [P], state, params [P]) -> (update [P], state).
    is_plain_sgd: whether the update is the gradient, so that a constraint on the gradient also
                  holds for the change of the parameters.
    at_task_end:  whether the next task goes on with the state ("keep") or begins with that of
                  `init` ("reset").
    """

    init: Callable[[Params], State]
    update: Callable[[Gradient, State, Params], tuple[Update, State]]
    is_plain_sgd: bool
    at_task_end: AtTaskEnd
