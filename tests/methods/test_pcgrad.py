import torch
from torchjd.aggregation import PCGrad

from gradalign_cli.methods.gradvac import order
from gradalign_cli.methods.pcgrad import pcgrad
from tests.methods.given import align, given
from tests.methods.problems import problems, stacked


def test_two_objectives_have_no_order_and_agree_with_torchjds_sum():
    for g, refs in problems():
        expected = PCGrad()(stacked(g, refs[:1])) / 2
        torch.testing.assert_close(align(pcgrad(), g, refs[:1]), expected)


def test_many_objectives_are_projected_in_the_drawn_order():
    for seed, (g, refs) in enumerate(problems()):
        J = stacked(g, refs)
        turns = order(given(g, refs, seed=seed).uniform.view(len(J), -1))
        changed = []
        for i, mine in enumerate(J.clone()):
            for j in turns[i].tolist():
                if j != i and mine @ J[j] < 0:
                    mine = mine - (mine @ J[j]) / (J[j] @ J[j]) * J[j]
            changed.append(mine)
        expected = torch.stack(changed).mean(0)
        torch.testing.assert_close(align(pcgrad(), g, refs, seed=seed), expected)


def test_without_a_conflict_it_is_the_mean():
    g = torch.tensor([1.0, 0.5]).double()
    refs = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double()
    torch.testing.assert_close(align(pcgrad(), g, refs), stacked(g, refs).mean(0))
