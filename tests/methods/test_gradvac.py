import pytest
import torch

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.gradvac import gradvac, vaccine_weights
from gradalign_cli.methods.pcgrad import pcgrad
from tests.methods.given import align, make_setup
from tests.methods.problems import jacobian, multitask_gradients


def test_with_targets_that_stay_at_zero_it_is_pcgrad():
    for g, references in multitask_gradients():
        direction = align(gradvac(0.0), g, references)
        torch.testing.assert_close(direction, align(pcgrad(), g, references))


@pytest.mark.parametrize("target", [-0.3, 0.0, 0.4, 0.8])
def test_a_pair_below_its_target_cosine_is_brought_to_it(target):
    available = torch.tensor([True, True])
    pair_target_cosines = torch.full((2, 2), target).double()
    uniform = torch.rand(2, 2, generator=torch.Generator().manual_seed(0))
    beta = torch.zeros(()).double()
    for g, references in multitask_gradients():
        J = jacobian(g, references[:1])
        K = J @ J.T
        cosine = K[0, 1] / (K[0, 0] * K[1, 1]).sqrt()
        weights, _ = vaccine_weights(K, available, uniform, pair_target_cosines, beta)
        if cosine >= target:
            torch.testing.assert_close(weights, torch.full((2,), 0.5).double())
            continue
        gains = (2 * weights - 1)[[1, 0]]  # how much of the other gradient each one has gained
        for i in range(2):
            changed = J[i] + gains[i] * J[1 - i]
            changed_cosine = changed @ J[1 - i] / (changed.norm() * J[1 - i].norm())
            torch.testing.assert_close(changed_cosine, changed_cosine.new_tensor(target))


def test_only_the_targets_of_available_pairs_move():
    method = gradvac(0.25)
    g = torch.tensor([1.0, 0.0]).double()
    references = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    gradients = make_gradients(g, references, available=torch.tensor([True, False]))
    _, state = method.align(gradients, method.init(make_setup(g, 5)))
    expected = torch.zeros(5, 5).double()
    expected[0, 2] = expected[2, 0] = 0.25 * 0.5**0.5
    torch.testing.assert_close(state.pair_target_cosines, expected)


def test_a_beta_of_one_is_refused():
    with pytest.raises(UserError, match=r"`method.beta` must be in \[0, 1\), found 1.0"):
        gradvac(1.0)
