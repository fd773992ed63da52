"""DFGP: GPM that seeks minima that are flat in the weights and in mixed images (Yang et al. 2023).

The formulas are those of the published code (github.com/EnnengYang/DFGP). One thing departs from
it: each label counts by the share of its own image, as in mixup (Zhang et al. 2018). In the code
the labels of all images count by the mean share, and by that of the other image.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.c_flat import move_along
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    Objective,
    ObjectiveGradient,
    Probe,
    TakeGradient,
)
from gradalign_cli.methods.subspace import RankRule, SubspaceState
from gradalign_cli.models.losses import cross_entropies, mean_over_valid
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.noise import beta_numbers, key_from, uniform_numbers
from gradalign_cli.numerics.trees import tree_map


class DFGPState(NamedTuple):
    """subspaces: the state of GPM;  radius, mixup_radius, mixup_weight: [] hyper-parameters;
    random_number: [] drawn in the last step."""

    subspaces: SubspaceState
    radius: Tensor
    mixup_radius: Tensor
    mixup_weight: Tensor
    random_number: Tensor


def mix_images(batch: Examples, partners: Examples, shares: Tensor) -> Examples:
    """The batch with `shares` [n] of each image, and the rest of its partner's."""
    shares = shares.view(-1, *[1] * (batch.images.dim() - 1))
    return batch._replace(images=shares * batch.images + (1 - shares) * partners.images)


def mixup_cross_entropy(
    logits: Tensor, batch: Examples, partners: Examples, shares: Tensor
) -> Tensor:
    """The mean cross-entropy [] of logits [n, outputs] for labels of which `shares` [n] are those
    of the batch, and the rest those of the partners."""
    own, others = cross_entropies(logits, batch), cross_entropies(logits, partners)
    return mean_over_valid(shares * own + (1 - shares) * others, batch.valid)


def mixup_loss(partners: Examples, label_shares: Tensor) -> Objective:
    """The mean cross-entropy of the batch's images mixed with those of the partners.

    The `params` of its inputs are the parameters [P] and, behind them, the shares [n] of the
    images, so that one gradient is that with respect to both. The shares of the labels are
    constant.
    """

    def loss(inputs: LossInputs, state: Any) -> tuple[Tensor, Output]:
        batch, count = inputs.batch, len(label_shares)
        params, shares = inputs.params[:-count], inputs.params[-count:]
        mixed = mix_images(batch, partners, shares)
        output = inputs.network(params, inputs.statistics, mixed)
        return mixup_cross_entropy(output.logits, batch, partners, label_shares), output

    return loss


def draw_shares_and_order(random_number: Tensor, count: int, alpha: int) -> tuple[Tensor, Tensor]:
    """`count` shares of the distribution Beta(alpha, alpha) and a random order of as many examples,
    from a random number [] in [0, 1)."""
    numbers_needed = (2 * alpha + 1) * count
    uniform = uniform_numbers(key_from(random_number), numbers_needed, random_number.dtype)
    shares = beta_numbers(uniform[count:].view(2, alpha, count))
    return shares, uniform[:count].argsort()


def gradient_at_worst_point(
    take_gradient: TakeGradient, inputs: LossInputs, state: DFGPState, mixup_alpha: int
) -> tuple[ObjectiveGradient, DFGPState]:
    """The `find_gradient` of DFGP: the gradient of the objective and the mixture's loss, after a
    step up both in the parameters and in the shares of the images."""
    params, batch = inputs.params.detach(), inputs.batch
    shares, order = draw_shares_and_order(state.random_number, len(batch.target), mixup_alpha)
    partners = tree_map(lambda field: field[order], batch)

    def gradient_at(params: Tensor, shares: Tensor) -> ObjectiveGradient:
        """The gradient [P + n] with respect to the parameters and the shares."""
        g, (value, output) = take_gradient(inputs._replace(params=params))
        joined = inputs._replace(params=torch.cat([params, shares]), statistics=output.statistics)
        mixed_g, (mixed_value, mixed) = take_gradient(joined, mixup_loss(partners, shares))
        total_g = torch.cat([g, torch.zeros_like(shares)]) + state.mixup_weight * mixed_g
        value = value + state.mixup_weight * mixed_value
        return total_g, (value, output._replace(statistics=mixed.statistics))

    uphill, value_and_output = gradient_at(params, shares)
    worst_params = move_along(params, uphill[: len(params)], state.radius)
    worst_shares = move_along(shares, uphill[len(params) :], state.mixup_radius).clamp(0, 1)
    g, _ = gradient_at(worst_params, worst_shares)
    return (g[: len(params)], value_and_output), state


def dfgp(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: RankRule,
    project_head: bool,
    radius: float,
    mixup_radius: float,
    mixup_weight: float,
    mixup_alpha: int,
) -> Method:
    """GPM with the gradient at the worst weights and the worst mixture nearby.

    The loss is the objective + mixup_weight * the cross-entropy of the batch's images, each mixed
    with another one. It is climbed by one step, of length `radius` in the weights and of length
    `mixup_radius` in the shares of all images together. The gradient there is projected.

    mixup_alpha: a whole number; the shares are drawn from Beta(mixup_alpha, mixup_alpha). A step
    draws 2 mixup_alpha numbers for each example.
    The other arguments are those of `gpm`.
    """
    gpm_method = gpm(thresholds, increase, samples, rank_rule, project_head)
    for name, number in (("radius", radius), ("mixup_radius", mixup_radius)):
        require(number >= 0, f"method.{name}", "non-negative", number)
    require(mixup_weight >= 0, "method.mixup_weight", "non-negative", mixup_weight)
    require(1 <= mixup_alpha <= 1000, "method.mixup_alpha", "from 1 to 1000", mixup_alpha)

    def init(setup: MethodSetup) -> DFGPState:
        numbers = map(setup.params.new_tensor, (radius, mixup_radius, mixup_weight, 0.0))
        return DFGPState(gpm_method.init(setup), *numbers)

    def align(gradients: Gradients, state: DFGPState) -> tuple[Tensor, DFGPState]:
        direction, subspaces = gpm_method.align(gradients, state.subspaces)
        number = gradients.random_numbers[0]
        return direction, state._replace(subspaces=subspaces, random_number=number)

    def end_task(state: DFGPState, params: Tensor, probe: Probe) -> DFGPState:
        return state._replace(subspaces=gpm_method.end_task(state.subspaces, params, probe))

    return gpm_method._replace(
        align=align,
        find_gradient=partial(gradient_at_worst_point, mixup_alpha=mixup_alpha),
        gradient_count=lambda b, m: 4,
        init=init,
        end_task=end_task,
        needs_random_numbers=True,
        claims=(*gpm_method.claims, "acts_without_memory"),
    )
