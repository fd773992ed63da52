"""Methods of multi-task learning, with the current task and each earlier task as the objectives.

They see the Gram matrix of the objectives' gradients and choose a weight for each objective.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.quadratic import lower_bounded_qp

MAX_PIVOTS = 24
RIDGE = 1e-10  # times the mean of the diagonal, where a solver needs a positive definite matrix

# (Gram matrix [n, n], available [n], uniform [n, n]) -> weights [n]
FindWeights = Callable[[Tensor, Tensor, Tensor], Tensor]


def jacobian_and_gram(gradients: Gradients) -> tuple[Tensor, Tensor, Tensor]:
    """J [n, P], the references in their order and then g; K = J J' [n, n] in float64; and which
    objectives [n] are available: those with examples in memory, and the current task."""
    J = torch.cat([gradients.references, gradients.g[None]])
    available = torch.cat([gradients.available, gradients.available.new_ones(1)])
    return J, (J @ J.T).double(), available


def weighted_sum_method(find_weights: FindWeights, needs_random: bool = False) -> Method:
    """The method whose direction is the sum of the objectives' gradients, weighted by
    `find_weights(K [n, n], available [n], uniform [n, n]) -> [n]`."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        J, K, available = jacobian_and_gram(gradients)
        uniform = gradients.uniform.view(len(J), -1)
        return find_weights(K, available, uniform).to(J.dtype) @ J, state

    return Method(align, references="per_task", needs_random=needs_random)


def mean_weights(available: Tensor) -> Tensor:
    """Equal weights [n] for the available objectives, 1 in total, in float64."""
    return available.double() / available.sum()


def regularised_gram(K: Tensor, available: Tensor) -> Tensor:
    """The Gram matrix K [n, n] over the mean of its diagonal, plus `RIDGE` on the diagonal.

    Objectives that are not available get the rows and columns of the identity.
    """
    scale = K.diagonal().sum() / available.sum()
    scale = torch.where(scale > 0, scale, 1.0)
    available_pairs = available[:, None] & available
    eye = torch.eye(len(K), dtype=K.dtype, device=K.device)
    return torch.where(available_pairs, K / scale + RIDGE * eye, eye)


def lower_bounded_minimiser(K: Tensor, q: Tensor, lower: Tensor) -> Tensor:
    """argmin 1/2 v'Kv + q'v for v >= lower, for K [..., n, n]; q, lower and v are [..., n]."""
    return lower_bounded_qp(K, q, lower, MAX_PIVOTS).v
