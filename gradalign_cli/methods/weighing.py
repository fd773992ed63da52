"""Methods of multi-task learning, with the current task and each earlier task as the objectives.

They see the Gram matrix of the objectives' gradients and choose a weight for each objective.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.quadratic import lower_bounded_qp
from gradalign_cli.numerics.spectral import eigh

MAX_GPU_PIVOTS = 24
EPS = torch.finfo(torch.float64).eps
RIDGE = 1e-10  # on a diagonal of ones, where a solver needs a positive definite matrix

# (Gram matrix [n, n], available [n], random numbers [n, n], eps of the gradients' type) -> [n]
FindWeights = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class JacobianAndGram(NamedTuple):
    """J: [n, P] in float64, the references in their order and then g;  K: J J' [n, n];
    available_objectives: [n] those with examples in memory, and the current task."""

    J: Tensor
    K: Tensor
    available_objectives: Tensor


def jacobian_and_gram(gradients: Gradients) -> JacobianAndGram:
    """The Jacobian of the objectives and its Gram matrix.

    The products are taken in float64: in float32 the Gram matrix of dependent gradients is not
    singular, and that of short ones is 0.
    """
    J = torch.cat([gradients.references, gradients.g[None]]).double()
    available_objectives = torch.cat([gradients.available, gradients.available.new_ones(1)])
    return JacobianAndGram(J, J @ J.T, available_objectives)


def weighted_sum_method(find_weights: FindWeights, needs_random_numbers: bool = False) -> Method:
    """The method whose direction is the sum of the objectives' gradients, weighted by
    `find_weights(K [n, n], available_objectives [n], random_numbers [n, n], gradient_dtype_eps)`
    [n], where `gradient_dtype_eps` is the relative rounding of the gradients' type."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        J, K, available_objectives = jacobian_and_gram(gradients)
        random_numbers, dtype = gradients.random_numbers.view(len(J), -1), gradients.g.dtype
        weights = find_weights(K, available_objectives, random_numbers, torch.finfo(dtype).eps)
        return (weights @ J).to(dtype), state

    return Method(align, references="per_task", needs_random_numbers=needs_random_numbers)


def mean_weights(available_objectives: Tensor) -> Tensor:
    """Equal weights [n] for the available objectives, 1 in total, in float64."""
    return available_objectives.double() / available_objectives.sum()


def norms_and_cosines(K: Tensor, available_objectives: Tensor) -> tuple[Tensor, Tensor]:
    """The norms [n] of the gradients with the Gram matrix K [n, n], 0 for those that are not
    available, and the cosines [n, n] between them. A gradient of length 0, like one that is not
    available, has the row and the column of the identity."""
    norms = torch.where(available_objectives, K.diagonal().clamp_min(0).sqrt(), 0.0)
    divisors = torch.where(norms > 0, norms, 1.0)
    pairs = (norms > 0)[:, None] & (norms > 0)
    eye = torch.eye(len(K), dtype=K.dtype, device=K.device)
    off_diagonal = (1 - eye) * K / divisors[:, None] / divisors
    return norms, torch.where(pairs, off_diagonal, 0.0) + eye


def with_ridge(cosines: Tensor) -> Tensor:
    """The cosines [n, n] with `RIDGE` added to the diagonal of ones. As the gradients count with
    length 1, the ridge distorts none of them more than another."""
    return cosines + RIDGE * torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)


def independent_gradient_count(cosines: Tensor, gradient_dtype_eps: float) -> Tensor:
    """How many [] of the gradients with these cosines [n, n] are linearly independent: eigenvalues
    below n times the precision of the gradients' type are rounding."""
    eigenvalues, _ = eigh(cosines)
    return (eigenvalues > len(cosines) * gradient_dtype_eps).sum()


def minimiser_above_bounds(K: Tensor, q: Tensor, lower_bounds: Tensor) -> Tensor:
    """argmin 1/2 v'Kv + q'v for v >= lower_bounds, for K [..., n, n]; q, lower_bounds and v are
    [..., n]."""
    return lower_bounded_qp(K, q, lower_bounds, MAX_GPU_PIVOTS).minimiser
