import pytest
import quadprog
import torch

from gradalign_cli.methods.mgda import mgda
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients, smallest_cosine


def test_the_direction_is_the_shortest_convex_combination_by_a_general_solver():
    for g, references in multitask_gradients():
        J = jacobian(g, references)
        n = len(J)
        K = (J @ J.T + 1e-12 * torch.eye(n)).numpy()
        constraints = torch.cat([torch.ones(n, 1), torch.eye(n)], 1).double().numpy()
        bounds = torch.tensor([1.0] + [0.0] * n).double().numpy()
        w = torch.from_numpy(quadprog.solve_qp(K, 0 * K[0], constraints, bounds, meq=1)[0])
        torch.testing.assert_close(align(mgda(), g, references), w @ J, rtol=1e-6, atol=1e-7)


def test_no_objective_is_hurt():
    for g, references in multitask_gradients():
        direction = align(mgda(), g, references)
        assert smallest_cosine(jacobian(g, references), direction) > -1e-6


def test_of_two_orthogonal_gradients_the_shorter_one_has_the_larger_weight():
    g, references = torch.tensor([3.0, 0.0]).double(), torch.tensor([[0.0, 1.0]]).double()
    assert align(mgda(), g, references).tolist() == pytest.approx([3 * 0.1, 0.9])


def test_for_opposed_gradients_the_direction_is_zero():
    g = torch.tensor([1.0, 2.0]).double()
    assert align(mgda(), g, -g[None]).abs().max() < 1e-6


def test_a_gradient_a_million_times_longer_does_not_drown_the_others():
    a = 1e-6
    J = torch.tensor([[a, 0], [0, 3 * a], [-1, 1]], dtype=torch.float64)
    direction = align(mgda(), J[2], J[:2]) / a
    torch.testing.assert_close(direction, J.new_tensor([0.5, 0.5]), rtol=1e-5, atol=0)  # up to a
