"""Conceptors: how much each direction of a layer's inputs matters, between 0 and 1 (Jaeger 2014).

A conceptor [d, d] is symmetric, with eigenvalues in [0, 1). That of inputs with the mean outer
product A is C = A (A + aperture^-2 I)^-1. With its strength q = c / (1 - c) in the place of each
eigenvalue c, it is aperture^2 A. All functions compute in float64.
"""

import torch
from torch import Tensor

LARGEST = 1 - 1e-7  # eigenvalue of a conceptor
ROUNDING = 1e-5  # eigenvalues up to this are rounding
GAIN = 1.1  # of the aperture, when a conceptor does not cover its inputs


def from_eigenvalues(eigenvalues: Tensor, U: Tensor) -> Tensor:
    """The symmetric matrix [d, d] with these eigenvalues [k] and eigenvectors U [d, k]."""
    matrix: Tensor = (U * eigenvalues) @ U.T
    return matrix


def eigenvalues_from_strengths(strengths: Tensor) -> Tensor:
    """q / (1 + q) [d] for strengths q [d], but at most `LARGEST`."""
    return (1 - 1 / (1 + strengths.clamp_min(0))).clamp_max(LARGEST)


def conceptor_of(R: Tensor, aperture: float, coverage: float) -> Tensor:
    """The conceptor C [d, d] of inputs R [d, n], with the first of the apertures `aperture`,
    1.1 `aperture`, 1.1^2 `aperture`, ... for which the lengths of the columns of C R are in sum at
    least `coverage` of those of R. A coverage close to `LARGEST` cannot be reached."""
    R = R.double()
    energies, U = torch.linalg.eigh(R @ R.T / R.shape[1])
    squared_coordinates, total_length = (U.T @ R).square(), R.norm(dim=0).sum()
    while True:
        eigenvalues = eigenvalues_from_strengths(aperture**2 * energies)
        length = (eigenvalues.square() @ squared_coordinates).sqrt().sum()
        if not length < coverage * total_length:
            return from_eigenvalues(eigenvalues, U)
        aperture *= GAIN


def conceptor_or(C: Tensor, B: Tensor) -> Tensor:
    """C or B: the conceptor [d, d] of the inputs of both, whose strengths add up."""

    def strength(conceptor: Tensor) -> Tensor:
        eigenvalues, U = torch.linalg.eigh(conceptor.double())
        eigenvalues = eigenvalues.clamp(0, LARGEST)
        return from_eigenvalues(eigenvalues / (1 - eigenvalues), U)

    strengths, U = torch.linalg.eigh(strength(C) + strength(B))
    return from_eigenvalues(eigenvalues_from_strengths(strengths), U)


def conceptor_and(C: Tensor, B: Tensor) -> Tensor:
    """C and B: (C^-1 + B^-1 - I)^-1 [d, d] on the directions that are within the range of both, and
    0 on all others."""
    eye = torch.eye(len(C), dtype=torch.float64, device=C.device)
    inverses, outside = -eye, torch.zeros_like(eye)
    for conceptor in (C, B):
        eigenvalues, U = torch.linalg.eigh(conceptor.double())
        within = eigenvalues > ROUNDING
        inverses = inverses + from_eigenvalues(1 / eigenvalues[within], U[:, within])
        outside = outside + from_eigenvalues(torch.ones_like(eigenvalues[~within]), U[:, ~within])
    eigenvalues, U = torch.linalg.eigh(outside)
    W = U[:, eigenvalues <= ROUNDING]
    overlap: Tensor = W @ torch.linalg.inv(W.T @ inverses @ W) @ W.T
    return overlap


def without_small_values(C: Tensor, least: float) -> Tensor:
    """The conceptor [d, d] with 0 in the place of eigenvalues below `least`."""
    eigenvalues, U = torch.linalg.eigh(C.double())
    return from_eigenvalues(torch.where(eigenvalues < least, 0.0, eigenvalues), U)


def leading_directions(C: Tensor, count: int) -> Tensor:
    """The `count` eigenvectors [d, count] with the largest eigenvalues, each with the sign by which
    its largest entry is positive: else rounding would choose it."""
    _, U = torch.linalg.eigh(C.double())
    directions: Tensor = U.flip(1)[:, :count]
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    return directions * signs
