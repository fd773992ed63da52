"""Gradients of several objectives for the methods of multi-task learning."""

import torch


def problems(count=40, seed=0):
    """Gradients g [P] and refs [M, P] in float64: random, nearly opposed, and of unequal length."""
    source = torch.Generator().manual_seed(seed)
    for trial in range(count):
        J = torch.randn(2 + trial % 5, 8 + trial, generator=source, dtype=torch.float64)
        if trial % 3 == 1:
            J[-1] = -J[0] + 0.1 * J[-1]
        if trial % 3 == 2:
            J = J * torch.logspace(-1, 1, len(J), dtype=torch.float64)[:, None]
        yield J[-1], J[:-1]


def stacked(g, refs):
    """All gradients [n, P], the current one last, as the methods order them."""
    return torch.cat([refs, g[None]])


def hurts(J, direction):
    """How far a direction is from hurting no objective, as a cosine."""
    return float((J @ direction / (J.norm(dim=1) * direction.norm())).min())
