"""Methods of multi-task learning: the current task and each earlier one are objectives.

They see the Gram matrix of the objectives' gradients and answer with a weight for each.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.quadratic import lower_bounded_qp

PIVOTS = 24
RIDGE = 1e-10  # of the mean of the diagonal, where a solver needs a positive definite matrix
Weigh = Callable[[Tensor, Tensor, Tensor], Tensor]


def gram(gradients: Gradients) -> tuple[Tensor, Tensor, Tensor]:
    """J [n, P], the gradients of earlier tasks in their order and then the current one's; J J'
    [n, n] in float64; which of them there are [n]."""
    J = torch.cat([gradients.references, gradients.g[None]])
    there = torch.cat([gradients.available, gradients.available.new_ones(1)])
    return J, (J @ J.T).double(), there


def weighing(weigh: Weigh, random: bool = False) -> Method:
    """The method that follows the sum of the objectives' gradients, weighed by
    `weigh(gram [n, n], there [n], uniform [n, n]) -> [n]`."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        J, K, there = gram(gradients)
        uniform = gradients.uniform.view(len(J), -1)
        return weigh(K, there, uniform).to(J.dtype) @ J, state

    return Method(align, references="per_task", needs_random=random)


def mean_weights(there: Tensor) -> Tensor:
    """The same weight [n] for each objective there is, 1 in total, in float64."""
    return there.double() / there.sum()


def regular(K: Tensor, there: Tensor) -> Tensor:
    """K [n, n] with a trace of ridge, and the identity for objectives that are not there."""
    size = K.diagonal().sum() / there.sum()
    size = torch.where(size > 0, size, 1.0)
    both = there[:, None] & there
    eye = torch.eye(len(K), dtype=K.dtype, device=K.device)
    return torch.where(both, K / size + RIDGE * eye, eye)


def non_negative_qp(K: Tensor, q: Tensor, low: Tensor) -> Tensor:
    """argmin 1/2 v'Kv + q'v for v >= low, for K [..., n, n]."""
    return lower_bounded_qp(K, q, low, PIVOTS).v
