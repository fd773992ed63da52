"""Eigenvectors of small symmetric matrices, also in a step that is captured on a GPU."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def eigh(K: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [n], ascending, and in columns eigenvectors [n, n] of a symmetric K [n, n].

    On a CPU they are LAPACK's. On other devices `torch.linalg.eigh` would wait for the device to
    report success, which a captured step cannot do, so Jacobi rotations take its place.
    """
    if not K.is_cpu:
        return jacobi_eigh(K)
    values, vectors = torch.linalg.eigh(K)
    return values, vectors


def pseudo_inverse_eigenvalues(eigenvalues: Tensor, absolute_threshold: float) -> Tensor:
    """The eigenvalues [n] of the pseudo-inverse of a matrix with these eigenvalues [n]: their
    inverses, and 0 for those that are not above `absolute_threshold`."""
    nonzero = eigenvalues > absolute_threshold
    return torch.where(nonzero, 1 / torch.where(nonzero, eigenvalues, 1.0), 0.0)


def jacobi_eigh(K: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `eigh`, by a fixed number of Jacobi rotations, without reading a tensor's value.

    A round rotates the rows i and n/2 + i, for all i at once. Between rounds the rows are paired
    anew like the players of a round-robin tournament (Brent & Luk 1985); a sweep over all pairs
    takes n - 1 rounds. The number of sweeps reaches rounding up to 20 rows, and 1e-11 of the
    largest eigenvalue with 60.
    """
    n = len(K)
    sweeps = 6 + n // 10
    half = (n + 1) // 2  # where n is odd, a row of zeros is added
    A = pad(K, (0, 2 * half - n, 0, 2 * half - n))
    V = torch.eye(2 * half, dtype=K.dtype, device=K.device)
    # row 0 keeps its place, the others move on by one place in a circle
    upper, lower = torch.arange(2 * half, device=K.device).split(half)
    fixed, crossing = upper[:1], upper[-1:] if half > 1 else upper[:0]
    next_order = torch.cat([fixed, lower[:1], upper[1:-1], lower[1:], crossing])
    for _ in range(sweeps * (2 * half - 1)):
        a, b, off_diagonal = A.diagonal()[:half], A.diagonal()[half:], A.diagonal(half)
        ratio = (b - a) / torch.where(off_diagonal == 0, 1.0, 2 * off_diagonal)
        tangent = torch.where(ratio < 0, -1.0, 1.0) / (ratio.abs() + (1 + ratio**2).sqrt())
        tangent = torch.where(off_diagonal == 0, 0.0, tangent)
        cosine = (1 + tangent**2).rsqrt()
        C, S = torch.diag_embed(cosine), torch.diag_embed(cosine * tangent)
        rotation = torch.cat([torch.cat([C, S], 1), torch.cat([-S, C], 1)])[:, next_order]
        A, V = rotation.T @ A @ rotation, V @ rotation
    added = V[n:].abs().sum(0)  # 1 for the eigenvector of the added row, which no rotation changes
    eigenvalues, order = torch.where(added > 0, torch.inf, A.diagonal()).sort()
    return eigenvalues[:n], V[:n, order][:, :n]
