"""Gradients of several objectives, for the methods of multi-task learning."""

import torch


def multitask_gradients(count=40, seed=0):
    """Yields pairs of g [P] and references [M, P] in float64, 1 <= M <= 5: in turn random ones,
    ones of which two are nearly opposed, and ones of unequal length."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        J = torch.randn(2 + number % 5, 8 + number, generator=generator, dtype=torch.float64)
        if number % 3 == 1:
            J[-1] = -J[0] + 0.1 * J[-1]
        if number % 3 == 2:
            J = J * torch.logspace(-1, 1, len(J), dtype=torch.float64)[:, None]
        yield J[-1], J[:-1]


def jacobian(g, references):
    """All gradients [n, P], the current one last, as the methods order them."""
    return torch.cat([references, g[None]])


def smallest_cosine(J, direction):
    """The smallest cosine between a direction [P] and a row of J [n, P]: negative where the
    direction hurts an objective."""
    return float((J @ direction / (J.norm(dim=1) * direction.norm())).min())
