"""GradVac: raise the cosine of each pair of gradients to a running target (Wang et al. 2021,
alg. 1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.methods.weighing import jacobian_and_gram, mean_weights


class GradVacState(NamedTuple):
    """beta: [] the rate of the targets' moving average;  pair_target_cosines: [T, T] for each pair
    of
    tasks."""

    beta: Tensor
    pair_target_cosines: Tensor


def random_orders(random_numbers: Tensor) -> Tensor:
    """In each row, a random order of the numbers 0 .. n - 1, from random numbers [n, n]."""
    return random_numbers.argsort(1)


def vaccine_weights(
    K: Tensor,
    available_objectives: Tensor,
    random_numbers: Tensor,
    pair_target_cosines: Tensor,
    beta: Tensor,
) -> tuple[Tensor, Tensor]:
    """The weights [n] of the mean of the changed gradients, and the moved targets [n, n], for a
    Gram matrix K [n, n] and target cosines [n, n] in (-1, 1).

    Each gradient g_i is compared with the others in a random order. Where its cosine c with g_j is
    below the target t, |g_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) times g_j
    is added to it, which brings the cosine to t (eq. 4). Then t moves by beta (c - t). The paper
    adds the changed gradients up instead of taking their mean, which is another step size.
    """
    n = len(K)
    indices = torch.arange(n, device=K.device)
    C = torch.eye(n, dtype=K.dtype, device=K.device)  # row i: weights of g_i as changed so far
    orders = random_orders(random_numbers)
    norms = K.diagonal().clamp_min(0).sqrt()
    for position in range(n):
        partner = indices == orders[:, position, None]  # one-hot [n, n]: the j of each i
        norm = ((C @ K) * C).sum(1).clamp_min(0).sqrt()
        partner_norm = torch.where(partner, norms, 0.0).sum(1)
        dot_product = torch.where(partner, C @ K, 0.0).sum(1)
        norm_product = norm * partner_norm
        c = (dot_product / torch.where(norm_product > 0, norm_product, 1.0)).clamp(-1, 1)
        t = torch.where(partner, pair_target_cosines, 0.0).sum(1)
        is_pair = (norm_product > 0) & (orders[:, position] != indices) & available_objectives
        gap = t * (1 - c * c).sqrt() - c * (1 - t * t).sqrt()
        gain = norm * gap / (torch.where(is_pair, partner_norm, 1.0) * (1 - t * t).sqrt())
        C = C + torch.where(is_pair & (c < t), gain, 0.0)[:, None] * partner
        moved_targets = pair_target_cosines + beta * (c - t)[:, None] * partner
        pair_target_cosines = torch.where(is_pair[:, None], moved_targets, pair_target_cosines)
    return mean_weights(available_objectives) @ C, pair_target_cosines


def gradvac(beta: float) -> Method:
    """The mean of the gradients of the current and all earlier tasks, each changed so that its
    cosines with the others are at least the moving averages of earlier steps.

    beta: the rate of the moving averages, which start at 0. With 0 they stay there, which is
    PCGrad.
    """
    require(0 <= beta < 1, "method.beta", "in [0, 1)", beta)

    def init(setup: MethodSetup) -> GradVacState:
        zeros = setup.params.new_zeros(setup.tasks, setup.tasks, dtype=torch.float64)
        return GradVacState(setup.params.new_tensor(beta).double(), zeros)

    def align(gradients: Gradients, state: GradVacState) -> tuple[Tensor, GradVacState]:
        J, K, available_objectives = jacobian_and_gram(gradients)
        n, targets = len(J), state.pair_target_cosines
        weights, block = vaccine_weights(
            K,
            available_objectives,
            gradients.random_numbers.view(n, n),
            targets[:n, :n],
            state.beta,
        )
        first_rows = torch.cat([block, targets[:n, n:]], 1)
        state = state._replace(pair_target_cosines=torch.cat([first_rows, targets[n:]]))
        return (weights @ J).to(gradients.g.dtype), state

    return Method(align, references="per_task", init=init, needs_random_numbers=True)
