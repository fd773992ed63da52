from itertools import product

import pytest
import torch
from torch.nn.functional import conv2d, local_response_norm, max_pool2d, pad, relu

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.owm import BLOCK, OWMState, owm, shrink_projector
from gradalign_cli.models.convnet import Block, convnet
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas
from tests.step.test_step import learner_after


def one_after_the_other(P, mean_inputs, alphas):
    """The paper's recursion, eq. 3."""
    for x, alpha in zip(mean_inputs, alphas, strict=True):
        k = P @ x
        P = P - torch.outer(k, k) / (alpha + x @ k)
    return P


def probe_of_first_task(parts):
    """The learner before training, and the `Probe` of the first task for it."""
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[0]
    return learner, make_probe(parts, learner, replica.stream.view, rows, 0)


def small_convnet(shape, outputs):
    """Two convolutions and a hidden layer."""
    blocks = [Block(3, 3, 1, (2, 1, 0)), Block(4, 2, 0, (2, 2, 0))]
    return convnet(blocks, [6], False, 1.0, shape, outputs)


def test_the_recursion_gives_the_inverse_in_its_docstring():
    torch.manual_seed(0)
    mean_inputs, n = torch.randn(7, 5).double(), 7
    alphas = 0.5 * 0.01 ** (torch.arange(n).double() / n)
    eye = torch.eye(5).double()
    inverse = torch.linalg.inv(eye + (mean_inputs.T / alphas) @ mean_inputs)
    torch.testing.assert_close(shrink_projector(eye, mean_inputs, alphas), inverse)


@pytest.mark.parametrize("width", [5, 200])
def test_blocks_of_mean_inputs_give_what_one_after_the_other_gives(width):
    torch.manual_seed(0)
    mean_inputs = torch.randn(2 * BLOCK + 7, width).double()
    alphas = 0.5 * 0.01 ** torch.rand(len(mean_inputs)).double()
    eye = torch.eye(width).double()
    before = one_after_the_other(eye, torch.randn(3, width).double(), [1.0] * 3)
    expected = one_after_the_other(before, mean_inputs, alphas)
    torch.testing.assert_close(shrink_projector(before, mean_inputs, alphas), expected)


def test_a_projector_rounded_to_float32_does_not_grow_when_old_inputs_come_again():
    """The rounding leaves it eigenvalues of either sign along them, which a small alpha raises."""
    torch.manual_seed(0)
    mean_inputs, alphas = torch.randn(20, 40).double(), torch.full((20,), 1e-9).double()
    rounded = shrink_projector(torch.eye(40).double(), mean_inputs, alphas).float().double()
    assert torch.linalg.eigvalsh(rounded)[0] < -1e-9
    P = shrink_projector(rounded, mean_inputs, alphas)
    assert torch.linalg.eigvalsh(P).abs().max() < 1 + 1e-6
    torch.testing.assert_close(P, rounded, rtol=0, atol=1e-4)


def test_for_a_vanishing_alpha_it_is_the_projector_off_the_mean_inputs():
    torch.manual_seed(1)
    mean_inputs = torch.randn(3, 8).double()
    P = shrink_projector(torch.eye(8).double(), mean_inputs, torch.full((3,), 1e-10).double())
    complement = torch.linalg.svd(mean_inputs)[2][3:]
    torch.testing.assert_close(P @ mean_inputs.T, torch.zeros(8, 3).double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(complement @ P, complement, atol=1e-8, rtol=0)


def test_kernels_have_a_mean_input_for_each_of_their_positions(tiny):
    """For 4 x 4 images the kernels of the first layer have 16 positions, those of the second 4."""
    method = owm([0.3, 0.2, 1.0, 1.0], [0.1, 1.0, 1.0, 1.0], 5, True)
    parts = make_parts(tiny, method, model=small_convnet, samples=12)
    learner, probe = probe_of_first_task(parts)
    state = method.end_task(learner.method_state, learner.params, probe)
    batches = probe.rows.split(5)
    images = (parts.benchmark.images[probe.rows] / 255).view(-1, *parts.benchmark.image_shape)
    kernels = learner.params[:27].view(3, 1, 3, 3)
    hidden = relu(conv2d(images, kernels, padding=1))
    hidden = max_pool2d(local_response_norm(hidden, 4, 0.001 / 9, 0.75, 1), 2, 1)
    first_P = eye = torch.eye(9).double()
    second_P = torch.eye(12).double()
    numbers = torch.arange(len(probe.rows)).split(5)
    for i, batch in enumerate(numbers):
        first_mean = pad(images[batch], (1, 1, 1, 1)).mean(0)
        for top, left in product(range(4), range(4)):
            patch = first_mean[:, top : top + 3, left : left + 3].flatten().double()
            alpha = 0.3 * 0.1 ** (i / len(batches))
            first_P = one_after_the_other(first_P, patch[None], [alpha])
        for top, left in product(range(2), range(2)):
            patch = hidden[batch].mean(0)[:, top : top + 2, left : left + 2].flatten().double()
            second_P = one_after_the_other(second_P, patch[None], [0.2])
    assert (first_P - eye).norm() > 1
    torch.testing.assert_close(state.projectors[0], first_P.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state.projectors[1], second_P.float(), rtol=1e-4, atol=1e-5)


def test_with_batches_of_one_and_a_vanishing_alpha_no_old_patch_is_left(tiny):
    """The mean over positions would leave what tells the patches of an image apart."""
    parts = make_parts(tiny, owm([1e-6], [1.0], 1, True), model=small_convnet, samples=2)
    learner, probe = probe_of_first_task(parts)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    patches = probe.layer_inputs(probe.rows)[1]
    assert (patches @ state.projectors[1]).norm() < 1e-2 * patches.norm()
    assert state.projectors[1].norm() > 1  # the rest of the space is free


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
