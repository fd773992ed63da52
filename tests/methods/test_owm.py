import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.owm import Projectors, owm, shrunk
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from tests.methods.given import given
from tests.runs import make_parts, make_replicas
from tests.step.test_step import learner_after


def test_the_recursion_is_the_inverse_it_stands_for():
    torch.manual_seed(0)
    means, n = torch.randn(7, 5).double(), 7
    alphas = 0.5 * 0.01 ** (torch.arange(n).double() / n)
    inverse = torch.linalg.inv(torch.eye(5).double() + (means.T / alphas) @ means)
    torch.testing.assert_close(shrunk(torch.eye(5).double(), means, 0.5, 0.01), inverse)


def test_a_vanishing_alpha_leaves_nothing_along_the_inputs_and_all_across_them():
    torch.manual_seed(1)
    means = torch.randn(3, 8).double()
    P = shrunk(torch.eye(8).double(), means, 1e-10, 1.0)
    across = torch.linalg.svd(means)[2][3:]
    torch.testing.assert_close(P @ means.T, torch.zeros(8, 3).double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(across @ P, across, atol=1e-8, rtol=0)


def test_each_layers_gradient_is_multiplied_by_its_projector():
    torch.manual_seed(2)
    W, b, P = torch.randn(2, 3), torch.randn(2), torch.randn(4, 4)
    layers = (Layer(8, 2, True), Layer(3, 0, False))
    g = torch.cat([W.flatten(), b, torch.ones(3)])
    method = owm([1.0], [1.0], 1, True)
    gradients = given(g, g.new_zeros(0, 11))._replace(layers=layers)
    found, _ = method.align(gradients, Projectors((P,)))
    G = torch.cat([W, b[:, None]], 1) @ P
    torch.testing.assert_close(found, torch.cat([G[:, :3].flatten(), G[:, 3], torch.ones(3)]))


def test_the_projector_is_made_of_the_mean_inputs_of_the_ended_tasks_batches(tiny):
    parts = make_parts(tiny, owm([0.3], [1.0], 4, False), samples=12)
    (replica,) = make_replicas(parts)
    (P,) = learner_after(parts, replica, 1).method_state.P
    x = parts.benchmark.images[replica.stream.train_rows[0]] / 255
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    # one batch of all: the mean does not depend on the order
    parts = make_parts(tiny, owm([0.3], [1.0], 12, False), samples=12)
    (whole,) = learner_after(parts, make_replicas(parts)[0], 1).method_state.P
    mean = x.mean(0)
    expected = torch.linalg.inv(torch.eye(len(mean)).double() + torch.outer(mean, mean) / 0.3)
    torch.testing.assert_close(whole.double(), expected, atol=1e-5, rtol=1e-5)
    lost = torch.linalg.matrix_rank(torch.eye(len(P)) - P, atol=1e-4)
    assert int(lost) == 3  # three batches


def test_wrong_values_are_refused(tiny):
    with pytest.raises(UserError, match=r"`method.alpha` must be a list of positive numbers"):
        owm([0.0], [1.0], 4, True)
    parts = make_parts(tiny, owm([1.0], [1.0, 0.1, 0.1], 4, True))
    with pytest.raises(UserError, match=r"`method.decay` must hold 1 or 2 numbers"):
        new_learner(parts, make_replicas(parts)[0])
