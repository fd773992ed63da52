"""C-Flat: descend to where the loss is flat, with any method (Bian et al. 2024)."""

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
    """radius, strength: [] the hyper-parameters of `c_flat`."""

    radius: Tensor
    strength: Tensor


def move_along(params: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    """params [P] moved by `radius` [] along a direction [P]; not moved where that is 0."""
    return params + radius * direction * ratio_or_zero(direction.new_ones(()), direction.norm())


def c_flat(radius: float, strength: float) -> Method:
    """The gradient of max loss(p + e) + strength * radius * max |gradient(p + e)|, both maxima over
    |e| <= radius (arXiv 2404.00986, eq. 7), approximated by four gradients.

    The first maximum is taken at one step of length `radius` along the gradient. The second is
    taken at one step along the direction in which the norm of the gradient grows. Products with
    the Hessian are differences of two gradients over the radius.
    """
    require(radius > 0, "method.radius", "positive", radius)
    require(strength >= 0, "method.strength", "non-negative", strength)

    def init(setup: MethodSetup) -> CFlatState:
        return CFlatState(setup.params.new_tensor(radius), setup.params.new_tensor(strength))

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: CFlatState
    ) -> tuple[ObjectiveGradient, CFlatState]:
        def gradient_at(params: Tensor) -> Tensor:
            return take_gradient(inputs._replace(params=params))[0]

        params, radius = inputs.params.detach(), state.radius
        g, value_and_output = take_gradient(inputs)
        sharp_gradient = gradient_at(move_along(params, g, radius))
        # the difference is about radius * H g / |g|, and |gradient| grows along H g / |g|
        steep_params = move_along(params, sharp_gradient - g, radius)
        steep_gradient = gradient_at(steep_params)
        # about radius times the gradient of |gradient| at steep_params
        norm_gradient = (
            gradient_at(move_along(steep_params, steep_gradient, radius)) - steep_gradient
        )
        return (sharp_gradient + state.strength * norm_gradient, value_and_output), state

    return Method(
        keep_gradient,
        find_gradient=find_gradient,
        gradient_count=lambda b, m: 4,
        init=init,
        claims=("acts_without_memory",),
    )
