"""MEGA-II: rotate the gradient towards the memory's, by an angle that depends on the losses (Guo et
al. 2020)."""

import math
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.vectors import divide_by_largest_entry, ratio_or_zero


def rotate_towards(g: Tensor, r: Tensor, loss: Tensor, reference_loss: Tensor) -> Tensor:
    """The vector [P] of length |g| at the angle t in [0, pi / 2] from g, towards r, that maximises
    loss cos t + reference_loss cos(a - t), where a is the angle between g and r [P] (eq. 9).

    Without the bounds on t this is the direction of loss g / |g| + reference_loss r / |r|. Where g
    and r are collinear there is no plane to rotate in, and g is returned.
    """
    largest, g, r = (
        g.abs().amax(),
        divide_by_largest_entry(g),
        divide_by_largest_entry(r),
    )  # no over- or underflow
    norm, cosine = g.norm(), ratio_or_zero(g @ r, g.norm() * r.norm()).clamp(-1, 1)
    sine = (1 - cosine.square()).sqrt()
    # the components, along g and orthogonal to it, of loss g / |g| + reference_loss r / |r|
    along_g, across_g = loss + reference_loss * cosine, reference_loss * sine
    angle = torch.atan2(across_g, along_g).clamp(0, math.pi / 2)
    normal = ratio_or_zero(r, r.norm()) - cosine * ratio_or_zero(g, norm)
    collinear = normal.norm() <= 1e-4
    unit_normal = ratio_or_zero(normal, normal.norm())
    rotated = torch.cos(angle) * g + torch.sin(angle) * norm * unit_normal
    return largest * torch.where(collinear, g, rotated)


def mega2() -> Method:
    """The gradient on the batch, rotated towards the gradient on a memory batch of all earlier
    tasks.

    The angle is computed in closed form. The published code finds the same angle by gradient ascent
    from three random starts.
    """

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        r, reference_loss = gradients.references[0], gradients.reference_losses[0]
        rotated = rotate_towards(gradients.g, r, gradients.loss, reference_loss)
        return torch.where(gradients.available[0], rotated, gradients.g), state

    return Method(align, references="pooled", claims=("keeps_length",))
