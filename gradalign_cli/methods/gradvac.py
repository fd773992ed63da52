"""GradVac: pull each pair of gradients to the cosine it used to have (Wang et al. 2021, alg. 1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.methods.weighing import gram, mean_weights


class Vaccine(NamedTuple):
    """beta: [] how fast a target follows;  targets: [T, T] cosine wanted of each pair of tasks."""

    beta: Tensor
    targets: Tensor


def order(uniform: Tensor) -> Tensor:
    """For each objective a random order [n, n] of all of them, from numbers [n, n]."""
    return uniform.argsort(1)


def vaccinate(
    K: Tensor, there: Tensor, uniform: Tensor, targets: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights [n] and new targets [n, n], for a Gram matrix [n, n] and targets in (-1, 1).

    Each gradient g_i meets the others in a random order. Where its cosine c with g_j is below the
    target t, it gains |g_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) of g_j,
    which brings the cosine to t (eq. 4). Then t moves by beta (c - t). The mean of the changed
    gradients is followed (the paper adds them up, which is another step size).
    """
    n = len(K)
    places = torch.arange(n, device=K.device)
    C = torch.eye(n, dtype=K.dtype, device=K.device)  # row i: g_i, as it is now, in the gradients
    meets = order(uniform)
    size = K.diagonal().clamp_min(0).sqrt()
    for s in range(n):
        other = places == meets[:, s, None]
        mine = ((C @ K) * C).sum(1).clamp_min(0).sqrt()
        theirs = torch.where(other, size, 0.0).sum(1)
        dot = torch.where(other, C @ K, 0.0).sum(1)
        product = mine * theirs
        c = (dot / torch.where(product > 0, product, 1.0)).clamp(-1, 1)
        t = torch.where(other, targets, 0.0).sum(1)
        real = (product > 0) & (meets[:, s] != places) & there
        gain = t * (1 - c * c).sqrt() - c * (1 - t * t).sqrt()
        scale = mine * gain / (torch.where(real, theirs, 1.0) * (1 - t * t).sqrt())
        C = C + torch.where(real & (c < t), scale, 0.0)[:, None] * other
        moved = targets + beta * (c - t)[:, None] * other
        targets = torch.where(real[:, None], moved, targets)
    return mean_weights(there) @ C, targets


def gradvac(beta: float) -> Method:
    """beta 0 keeps all targets at 0, which is PCGrad."""
    require(0 <= beta < 1, "method.beta", "in [0, 1)", beta)

    def init(setting: MethodSetup) -> Vaccine:
        targets = setting.params.new_zeros(setting.tasks, setting.tasks, dtype=torch.float64)
        return Vaccine(setting.params.new_tensor(beta).double(), targets)

    def align(gradients: Gradients, state: Vaccine) -> tuple[Tensor, Vaccine]:
        J, K, there = gram(gradients)
        n = len(J)
        uniform = gradients.uniform.view(n, n)
        own = state.targets[:n, :n]
        weights, own = vaccinate(K, there, uniform, own, state.beta)
        right = torch.cat([own, state.targets[:n, n:]], 1)
        targets = torch.cat([right, state.targets[n:]])
        return weights.to(J.dtype) @ J, state._replace(targets=targets)

    return Method(align, references="per_task", init=init, needs_random=True)
