"""C-Flat: descend to where the loss is flat, whatever the method (Bian et al. 2024)."""

from typing import NamedTuple

from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    keep_gradient,
)
from gradalign_cli.numerics.vectors import ratio_or_zero


class CFlatState(NamedTuple):
    """radius, strength: []."""

    radius: Tensor
    strength: Tensor


def c_flat(radius: float, strength: float) -> Method:
    """The gradient of max loss(p + e) + strength * radius * max |gradient(p + e)|, |e| <= radius
    (arXiv 2404.00986, eq. 7), which four gradients approximate.

    The first maximum is taken one step up the loss; the second one step up the length of the
    gradient, with products of the Hessian by differences over the radius.
    """
    require(radius > 0, "method.radius", "positive", radius)
    require(strength >= 0, "method.strength", "non-negative", strength)

    def init(setting: MethodSetup) -> CFlatState:
        return CFlatState(setting.params.new_tensor(radius), setting.params.new_tensor(strength))

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: CFlatState
    ) -> tuple[ObjectiveGradient, CFlatState]:
        def up(params: Tensor, direction: Tensor) -> Tensor:
            return params + state.radius * direction * ratio_or_zero(
                direction.new_ones(()), direction.norm()
            )

        def at(params: Tensor) -> Tensor:
            return derivative(trial._replace(params=params))[0]

        here = trial.params.detach()
        g, rest = derivative(trial)
        higher = at(up(here, g))
        steeper = up(here, higher - g)  # higher - g is radius * H g / |g|, uphill for |gradient|
        there = at(steeper)
        rise = at(up(steeper, there)) - there
        return (higher + state.strength * rise, rest), state

    return Method(keep_gradient, find_gradient=derive, init=init)
