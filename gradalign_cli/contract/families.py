"""Families of gradients that solvers find hard: short, long, dependent, opposed and zero ones.

A family is J [n, P] in float64, the references in their order and then g.
"""

import math

import torch
from torch import Tensor


def random_jacobian(row_count: int, column_count: int = 12, seed: int = 0) -> Tensor:
    """A random Jacobian [row_count, column_count]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(row_count, column_count, generator=generator, dtype=torch.float64)


def with_norms(J: Tensor, norm_ratio: float) -> Tensor:
    """The rows with lengths from 1 down to 1 / norm_ratio."""
    lengths = torch.logspace(0, -math.log10(norm_ratio), len(J))
    return torch.nn.functional.normalize(J, dim=1) * lengths.double()[:, None]


def with_last_opposed(J: Tensor, radians: float) -> Tensor:
    """The last gradient turned to the opposite of the first, but for an angle."""
    J = J.clone()
    J[-1] = -J[0] + radians * J[0].norm() * torch.nn.functional.normalize(J[-1], dim=0)
    return J


def replace_last_by_combination(J: Tensor, *weights: float) -> Tensor:
    """The last gradient replaced by a combination of the others."""
    J = J.clone()
    J[-1] = torch.tensor(weights, dtype=torch.float64) @ J[: len(weights)]
    return J


def correlated_gradients(row_count: int, common_norm: float) -> Tensor:
    """Gradients that share a direction of a given length."""
    return random_jacobian(row_count) + common_norm * random_jacobian(1, seed=9)


WELL_POSED = {  # a change of the last bit changes the solution as little
    "two": random_jacobian(2),
    "three": random_jacobian(3),
    "five": random_jacobian(5, seed=3),
    "nine": random_jacobian(9, 40, seed=4),
    "opposed": with_last_opposed(random_jacobian(3), 0.3),
    "nearly opposed": with_last_opposed(random_jacobian(3), 1e-2),
    "correlated": correlated_gradients(4, 3.0),
    "anticorrelated": torch.cat([correlated_gradients(3, 2.0), correlated_gradients(1, -2.0)]),
    "norms over 1e2": with_norms(random_jacobian(4), 1e2),
    "norms over 1e4": with_norms(with_last_opposed(random_jacobian(4), 0.5), 1e4),
    "norms over 1e6": with_norms(random_jacobian(4, seed=5), 1e6),
    "all at 1e-20": 1e-20 * with_last_opposed(random_jacobian(3), 0.3),
    "all at 1e15": 1e15 * with_last_opposed(random_jacobian(3), 0.3),
}
DEGENERATE = {  # the solution may not be unique, or jump
    "one zero": torch.cat(
        [random_jacobian(2), torch.zeros(1, 12), -random_jacobian(1, seed=7)]
    ).double(),
    "duplicate": replace_last_by_combination(random_jacobian(3), 1.0, 0.0),
    "collinear": replace_last_by_combination(random_jacobian(3), 2.5, 0.0),
    "rank-deficient": replace_last_by_combination(random_jacobian(3), 1.0, 1.0),
    "near-collinear": replace_last_by_combination(random_jacobian(3), 1.0, 0.0)
    + 1e-6 * random_jacobian(3, seed=8),
}
FAMILIES = WELL_POSED | DEGENERATE
