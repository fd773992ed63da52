"""MEGA-II: turn the gradient towards the memory's as far as the losses say (Guo et al. 2020)."""

import math
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.vectors import ratio_or_zero


def turn(g: Tensor, r: Tensor, loss: Tensor, ref_loss: Tensor) -> Tensor:
    """The vector of length |g| at the angle t in [0, pi / 2] from g, towards r, that maximises
    loss cos t + ref_loss cos(angle - t), where `angle` lies between g and r [P] (eq. 9).

    Without the bound on t that is the direction of loss g / |g| + ref_loss r / |r|. Where g and r
    lie on one line there is no plane to turn in, and g is kept.
    """
    size, cosine = g.norm(), ratio_or_zero(g @ r, g.norm() * r.norm()).clamp(-1, 1)
    sine = (1 - cosine.square()).sqrt()
    ahead, aside = loss + ref_loss * cosine, ref_loss * sine
    angle = torch.atan2(aside, ahead).clamp(0, math.pi / 2)
    normal = ratio_or_zero(r, r.norm()) - cosine * ratio_or_zero(g, size)
    flat = normal.norm() <= 1e-4
    turned = torch.cos(angle) * g + torch.sin(angle) * size * ratio_or_zero(normal, normal.norm())
    return torch.where(flat, g, turned)


def mega2() -> Method:
    """In closed form; the published code climbs to the same angle from three random starts."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        r, ref_loss = gradients.references[0], gradients.reference_losses[0]
        turned = turn(gradients.g, r, gradients.loss, ref_loss)
        return torch.where(gradients.available[0], turned, gradients.g), state

    return Method(align, references="pooled")
