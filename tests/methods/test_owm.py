import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.owm import OWMState, owm, shrink_projector
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from tests.methods.given import make_gradients
from tests.runs import make_parts, make_replicas
from tests.step.test_step import learner_after


def test_the_recursion_gives_the_inverse_in_its_docstring():
    torch.manual_seed(0)
    mean_inputs, n = torch.randn(7, 5).double(), 7
    alphas = 0.5 * 0.01 ** (torch.arange(n).double() / n)
    eye = torch.eye(5).double()
    inverse = torch.linalg.inv(eye + (mean_inputs.T / alphas) @ mean_inputs)
    torch.testing.assert_close(shrink_projector(eye, mean_inputs, 0.5, 0.01), inverse)


def test_for_a_vanishing_alpha_it_is_the_projector_off_the_mean_inputs():
    torch.manual_seed(1)
    mean_inputs = torch.randn(3, 8).double()
    P = shrink_projector(torch.eye(8).double(), mean_inputs, 1e-10, 1.0)
    complement = torch.linalg.svd(mean_inputs)[2][3:]
    torch.testing.assert_close(P @ mean_inputs.T, torch.zeros(8, 3).double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(complement @ P, complement, atol=1e-8, rtol=0)


def test_each_layers_gradient_is_multiplied_by_its_projector():
    torch.manual_seed(2)
    W, b, P = torch.randn(2, 3), torch.randn(2), torch.randn(4, 4)
    layers = (Layer(8, 2, True), Layer(3, 0, False))
    g = torch.cat([W.flatten(), b, torch.ones(3)])
    method = owm([1.0], [1.0], 1, True)
    gradients = make_gradients(g, g.new_zeros(0, 11))._replace(layers=layers)
    direction, _ = method.align(gradients, OWMState((P,)))
    G = torch.cat([W, b[:, None]], 1) @ P
    expected = torch.cat([G[:, :3].flatten(), G[:, 3], torch.ones(3)])
    torch.testing.assert_close(direction, expected)


def test_the_projector_is_computed_from_the_mean_inputs_of_the_ended_tasks_batches(tiny):
    # with one batch of all examples the mean does not depend on their order
    parts = make_parts(tiny, owm([0.3], [1.0], 12, False), samples=12)
    replica = make_replicas(parts)[0]
    (P,) = learner_after(parts, replica, 1).method_state.projectors
    x = parts.benchmark.images[replica.stream.train_rows[0]] / 255
    mean = torch.cat([x, torch.ones(len(x), 1)], 1).double().mean(0)
    expected = torch.linalg.inv(torch.eye(len(mean)).double() + torch.outer(mean, mean) / 0.3)
    torch.testing.assert_close(P.double(), expected, atol=1e-5, rtol=1e-5)


def test_the_projector_shrinks_in_as_many_directions_as_there_are_batches(tiny):
    parts = make_parts(tiny, owm([0.3], [1.0], 4, False), samples=12)
    (P,) = learner_after(parts, make_replicas(parts)[0], 1).method_state.projectors
    assert int(torch.linalg.matrix_rank(torch.eye(len(P)) - P, atol=1e-4)) == 3


def test_wrong_values_are_refused(tiny):
    with pytest.raises(UserError, match=r"`method.alpha` must be a list of positive numbers"):
        owm([0.0], [1.0], 4, True)
    parts = make_parts(tiny, owm([1.0], [1.0, 0.1, 0.1], 4, True))
    with pytest.raises(UserError, match=r"`method.decay` must hold 1 or 2 numbers"):
        new_learner(parts, make_replicas(parts)[0])
