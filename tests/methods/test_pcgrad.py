import torch
from torchjd.aggregation import PCGrad

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.methods.gradvac import random_orders
from gradalign_cli.methods.pcgrad import pcgrad
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients


def test_with_two_objectives_no_order_matters_and_it_is_half_the_sum_of_torchjd():
    for g, references in multitask_gradients():
        expected = PCGrad()(jacobian(g, references[:1])) / 2
        torch.testing.assert_close(align(pcgrad(), g, references[:1]), expected)


def test_many_objectives_are_projected_in_the_drawn_order():
    for seed, (g, references) in enumerate(multitask_gradients()):
        J = jacobian(g, references)
        random_numbers = make_gradients(g, references, seed=seed).random_numbers
        orders = random_orders(random_numbers.view(len(J), -1))
        projected = []
        for i, gradient in enumerate(J.clone()):
            for j in orders[i].tolist():
                if j != i and gradient @ J[j] < 0:
                    gradient = gradient - (gradient @ J[j]) / (J[j] @ J[j]) * J[j]
            projected.append(gradient)
        direction = align(pcgrad(), g, references, seed=seed)
        torch.testing.assert_close(direction, torch.stack(projected).mean(0))


def test_without_a_conflict_it_is_the_mean():
    g = torch.tensor([1.0, 0.5]).double()
    references = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double()
    torch.testing.assert_close(align(pcgrad(), g, references), jacobian(g, references).mean(0))
