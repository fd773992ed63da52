import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.gradvac import gradvac, vaccinate
from gradalign_cli.methods.pcgrad import pcgrad
from tests.methods.given import align, given, setting
from tests.methods.problems import problems, stacked


def test_with_targets_that_stay_at_zero_it_is_pcgrad():
    for g, refs in problems():
        torch.testing.assert_close(align(gradvac(0.0), g, refs), align(pcgrad(), g, refs))


def test_a_pair_is_brought_to_its_target_cosine():
    there = torch.tensor([True, True])
    for g, refs in problems():
        J = stacked(g, refs[:1])
        for target in (-0.3, 0.0, 0.4, 0.8):
            targets = torch.full((2, 2), target).double()
            K = J @ J.T
            cosine = K[0, 1] / (K[0, 0] * K[1, 1]).sqrt()
            uniform = torch.rand(2, 2, generator=torch.Generator().manual_seed(0))
            weights, _ = vaccinate(K, there, uniform, targets, torch.zeros(()).double())
            if cosine >= target:
                torch.testing.assert_close(weights, torch.full((2,), 0.5).double())
                continue
            gain = (2 * weights - 1)[[1, 0]]  # of the other gradient in each
            for i in range(2):
                mine = J[i] + gain[i] * J[1 - i]
                found = mine @ J[1 - i] / (mine.norm() * J[1 - i].norm())
                torch.testing.assert_close(found, found.new_tensor(target))


def test_targets_follow_the_cosines_of_real_pairs_only():
    method = gradvac(0.25)
    g, refs = torch.tensor([1.0, 0.0]).double(), torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    state = method.init(setting(g, 5))
    _, state = method.align(given(g, refs, seen=torch.tensor([True, False])), state)
    expected = torch.zeros(5, 5).double()
    expected[0, 2] = expected[2, 0] = 0.25 * 0.5**0.5
    torch.testing.assert_close(state.targets, expected)


def test_beta_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"`method.beta` must be in \[0, 1\), found 1.0"):
        gradvac(1.0)
