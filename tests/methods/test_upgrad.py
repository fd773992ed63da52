import quadprog
import torch
from torchjd.aggregation import UPGrad
from torchjd.linalg import QuadprogProjector

from gradalign_cli.methods.upgrad import upgrad
from tests.methods.given import align
from tests.methods.problems import hurts, problems, stacked


def test_it_is_the_mean_of_the_projections_onto_the_dual_cone_by_a_general_solver():
    for g, refs in problems():
        J = stacked(g, refs)
        eye, zero = torch.eye(len(g)).double().numpy(), torch.zeros(len(J)).double().numpy()
        projected = [
            torch.from_numpy(quadprog.solve_qp(eye, mine.numpy(), J.T.numpy(), zero)[0])
            for mine in J
        ]
        expected = torch.stack(projected).mean(0)
        torch.testing.assert_close(align(upgrad(), g, refs), expected, rtol=1e-5, atol=1e-6)


def test_the_direction_is_torchjds():
    projector = QuadprogProjector(norm_eps=0, reg_eps=1e-12)
    for g, refs in problems():
        expected = UPGrad(projector=projector)(stacked(g, refs))
        torch.testing.assert_close(align(upgrad(), g, refs), expected, rtol=1e-5, atol=1e-5)


def test_no_objective_is_hurt():
    for g, refs in problems():
        assert hurts(stacked(g, refs), align(upgrad(), g, refs)) > -1e-6


def test_without_a_conflict_it_is_the_mean():
    g = torch.tensor([1.0, 0.5]).double()
    torch.testing.assert_close(align(upgrad(), g, 3 * g[None]), 2 * g)
