"""Eigenvectors of small symmetric matrices, also where a step is captured."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def eigen(K: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [n], ascending, and in columns eigenvectors [n, n] of a symmetric K [n, n].

    On a CPU LAPACK finds them. Elsewhere it would wait for the device to say whether it has, which
    a captured step cannot do.
    """
    if not K.is_cpu:
        return jacobi(K)
    found: tuple[Tensor, Tensor] = torch.linalg.eigh(K)
    return found


def inverses(values: Tensor, least: Tensor) -> Tensor:
    """1 / values [n], and 0 for those that are not above `least` []: a pseudo-inverse's."""
    kept = values > least
    return torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)


def jacobi(K: Tensor) -> tuple[Tensor, Tensor]:
    """The same by a fixed number of Jacobi's rotations, which looks at no tensor.

    Every round turns disjoint pairs at once: rows i and n/2 + i, which are then dealt anew as the
    players of a round-robin tournament (Brent & Luk 1985). So many sweeps over all pairs reach
    rounding up to 20 rows, and 1e-11 of the largest eigenvalue with 60.
    """
    n = len(K)
    sweeps = 6 + n // 10
    half = (n + 1) // 2  # of an odd number one row plays against a row of zeros
    A = pad(K, (0, 2 * half - n, 0, 2 * half - n))
    V = torch.eye(2 * half, dtype=K.dtype, device=K.device)
    first, second = torch.arange(2 * half, device=K.device).split(half)
    stays, leaves = first[:1], first[-1:] if half > 1 else first[:0]
    dealt = torch.cat([stays, second[:1], first[1:-1], second[1:], leaves])
    for _ in range(sweeps * (2 * half - 1)):
        a, b, both = A.diagonal()[:half], A.diagonal()[half:], A.diagonal(half)
        ratio = (b - a) / torch.where(both == 0, 1.0, 2 * both)
        tangent = torch.where(ratio < 0, -1.0, 1.0) / (ratio.abs() + (1 + ratio**2).sqrt())
        tangent = torch.where(both == 0, 0.0, tangent)
        cos = (1 + tangent**2).rsqrt()
        C, S = torch.diag_embed(cos), torch.diag_embed(cos * tangent)
        turn = torch.cat([torch.cat([C, S], 1), torch.cat([-S, C], 1)])[:, dealt]
        A, V = turn.T @ A @ turn, V @ turn
    added = V[n:].abs().sum(0)  # 1 for the row of zeros, which nothing turns
    values, order = torch.where(added > 0, torch.inf, A.diagonal()).sort()
    return values[:n], V[:n, order][:, :n]
