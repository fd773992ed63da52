import quadprog
import torch
from torchjd.aggregation import UPGrad
from torchjd.linalg import QuadprogProjector

from gradalign_cli.methods.upgrad import upgrad
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients, smallest_cosine


def test_it_is_the_mean_of_the_projections_onto_the_dual_cone_by_a_general_solver():
    for g, references in multitask_gradients():
        J = jacobian(g, references)
        eye, zeros = torch.eye(len(g)).double().numpy(), torch.zeros(len(J)).double().numpy()
        projections = [
            torch.from_numpy(quadprog.solve_qp(eye, gradient.numpy(), J.T.numpy(), zeros)[0])
            for gradient in J
        ]
        expected = torch.stack(projections).mean(0)
        torch.testing.assert_close(align(upgrad(), g, references), expected, rtol=1e-5, atol=1e-6)


def test_the_direction_is_that_of_torchjd():
    projector = QuadprogProjector(norm_eps=0, reg_eps=1e-12)
    for g, references in multitask_gradients():
        expected = UPGrad(projector=projector)(jacobian(g, references))
        torch.testing.assert_close(align(upgrad(), g, references), expected, rtol=1e-5, atol=1e-5)


def test_no_objective_is_hurt():
    for g, references in multitask_gradients():
        direction = align(upgrad(), g, references)
        assert smallest_cosine(jacobian(g, references), direction) > -1e-6


def test_without_a_conflict_it_is_the_mean():
    g = torch.tensor([1.0, 0.5]).double()
    torch.testing.assert_close(align(upgrad(), g, 3 * g[None]), 2 * g)
