import pytest
import quadprog
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import PIVOTS, gem
from gradalign_cli.numerics.quadratic import lower_bounded_qp
from tests.methods.given import given, setting


def align(g, refs, margin=0.0, eps=1e-12, scaled=True, seen=None):
    method = gem(margin, eps, scaled)
    return method.align(given(g, refs, seen=seen), method.init(setting(g, len(refs) + 1)))


def problems():
    """Gradients of random, collinear, rank-deficient and nearly opposed tasks, and a new one."""
    source = torch.Generator().manual_seed(0)
    for trial in range(150):
        tasks, size = 1 + trial % 19, 5 + trial % 40
        refs = torch.randn(tasks, size, generator=source, dtype=torch.float64)
        kind = trial % 4
        if kind == 1:
            refs[-1] = 3 * refs[0]
        if kind == 2:
            refs = refs[:, :2] @ torch.randn(2, size, generator=source, dtype=torch.float64)
        if kind == 3:
            refs[-1] = -refs[0] + 1e-3 * refs[-1]
        yield torch.randn(size, generator=source, dtype=torch.float64), refs


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_direction_is_quadprogs(margin):
    for g, refs in problems():
        gram = refs @ refs.T
        P = gram + 1e-3 * gram.diagonal().mean() * torch.eye(len(refs), dtype=refs.dtype)
        direction, state = align(g, refs, margin, 1e-3)
        if (refs @ g < 0).any():
            identity, low = torch.eye(len(refs)).double().numpy(), [margin] * len(refs)
            v = quadprog.solve_qp(
                P.numpy(), -(refs @ g).numpy(), identity, torch.tensor(low).double().numpy()
            )[0]
            expected = g + torch.from_numpy(v) @ refs
        else:
            expected = g
        torch.testing.assert_close(direction, expected, rtol=1e-8, atol=1e-8)
        assert state.unsolved == 0


def test_the_solution_satisfies_the_kkt_conditions():
    for g, refs in problems():
        P = refs @ refs.T + 1e-3 * torch.eye(len(refs), dtype=refs.dtype)
        v, residual = lower_bounded_qp(P, refs @ g, torch.full_like(refs @ g, 0.5), PIVOTS)
        multiplier = P @ v + refs @ g
        scale = multiplier.abs().max().clamp_min(1) + P.abs().max()
        assert (v >= 0.5 - 1e-10).all()
        assert (multiplier >= -1e-9 * scale).all()
        assert ((v - 0.5) * multiplier).abs().max() < 1e-8 * scale
        assert residual < 1e-9


def test_the_residual_tells_a_wrong_solution():
    P, q, low = torch.eye(3).double(), -torch.ones(3).double(), torch.zeros(3).double()
    assert lower_bounded_qp(P, q, low, 4).residual < 1e-12
    P[0, 1] = P[1, 0] = torch.nan
    assert not lower_bounded_qp(P, q, low, 4).residual < 1e-6


def test_no_reference_is_hurt():
    for g, refs in problems():
        direction, _ = align(g, refs, 0.0, 1e-9)
        assert (refs @ direction >= -1e-6 * refs.norm(dim=1) * g.norm()).all()


def test_one_reference_and_no_margin_is_agem():
    source = torch.Generator().manual_seed(1)
    for _ in range(50):
        g, r = torch.randn(2, 30, generator=source, dtype=torch.float64)
        expected, _ = agem().align(given(g, r[None]), ())
        torch.testing.assert_close(align(g, r[None])[0], expected, rtol=1e-9, atol=1e-9)


def test_no_conflict_leaves_the_gradient_bit_identical_whatever_the_margin():
    g = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(align(g, torch.stack([g, 2 * g]), margin=0.5)[0], g)


def test_tasks_with_nothing_in_memory_do_not_count():
    source = torch.Generator().manual_seed(2)
    g, *refs = torch.randn(4, 10, generator=source, dtype=torch.float64)
    seen = torch.tensor([True, False, True])
    refs = torch.stack([-g, *refs[:2]]) * seen[:, None]
    some, _ = align(g, refs, 0.5, 1e-3, scaled=False, seen=seen)
    torch.testing.assert_close(some, align(g, refs[seen], 0.5, 1e-3, scaled=False)[0])
    assert torch.equal(align(g, 0 * refs, seen=torch.zeros(3, dtype=torch.bool))[0], g)


def test_a_negative_margin_is_refused():
    with pytest.raises(UserError, match=r"`method.margin` must be non-negative, found -1"):
        gem(-1.0, 1e-3, True)
