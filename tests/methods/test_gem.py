import pytest
import quadprog
import torch

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import MAX_GPU_PIVOTS, gem
from gradalign_cli.numerics.quadratic import lower_bounded_qp
from tests.methods.given import make_setup


def gem_align(g, references, margin=0.0, eps=1e-12, scaled=True, available=None):
    """The direction of GEM, and its state afterwards."""
    method = gem(margin, eps, scaled)
    state = method.init(make_setup(g, len(references) + 1))
    return method.align(make_gradients(g, references, available=available), state)


def gem_gradients():
    """Yields g [P] and references [M, P]: in turn random, collinear, rank-deficient and nearly
    opposed ones."""
    generator = torch.Generator().manual_seed(0)
    for number in range(150):
        tasks, size = 1 + number % 19, 5 + number % 40
        references = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
        kind = number % 4
        if kind == 1:
            references[-1] = 3 * references[0]
        if kind == 2:
            mixture = torch.randn(2, size, generator=generator, dtype=torch.float64)
            references = references[:, :2] @ mixture
        if kind == 3:
            references[-1] = -references[0] + 1e-3 * references[-1]
        yield torch.randn(size, generator=generator, dtype=torch.float64), references


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_direction_is_that_of_quadprog(margin):
    for g, references in gem_gradients():
        gram = references @ references.T
        P = gram + 1e-3 * torch.diag(gram.diagonal())
        direction, state = gem_align(g, references, margin, 1e-3)
        if (references @ g < 0).any():
            eye = torch.eye(len(references)).double().numpy()
            lower = torch.full((len(references),), margin).double().numpy()
            v = quadprog.solve_qp(P.numpy(), -(references @ g).numpy(), eye, lower)[0]
            expected = g + torch.from_numpy(v) @ references
        else:
            expected = g
        torch.testing.assert_close(direction, expected, rtol=1e-8, atol=1e-8)
        assert state.unsolved == 0


def test_the_solution_satisfies_the_kkt_conditions():
    for g, references in gem_gradients():
        q = references @ g
        P = references @ references.T + 1e-3 * torch.eye(len(q), dtype=q.dtype)
        v, residual = lower_bounded_qp(P, q, torch.full_like(q, 0.5), MAX_GPU_PIVOTS)
        multiplier = P @ v + q
        scale = multiplier.abs().max().clamp_min(1) + P.abs().max()
        assert (v >= 0.5 - 1e-10).all()
        assert (multiplier >= -1e-9 * scale).all()
        assert ((v - 0.5) * multiplier).abs().max() < 1e-8 * scale
        assert residual < 1e-9


def test_a_wrong_solution_has_a_large_residual():
    P, q, lower = torch.eye(3).double(), -torch.ones(3).double(), torch.zeros(3).double()
    assert lower_bounded_qp(P, q, lower, 4).kkt_residual < 1e-12
    P[0, 1] = P[1, 0] = torch.nan
    assert not lower_bounded_qp(P, q, lower, 4).kkt_residual < 1e-6


def test_no_reference_is_hurt():
    for g, references in gem_gradients():
        direction, _ = gem_align(g, references, 0.0, 1e-9)
        assert (references @ direction >= -1e-6 * references.norm(dim=1) * g.norm()).all()


def test_with_one_reference_and_no_margin_it_is_agem():
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        g, r = torch.randn(2, 30, generator=generator, dtype=torch.float64)
        expected, _ = agem().align(make_gradients(g, r[None]), ())
        torch.testing.assert_close(gem_align(g, r[None])[0], expected, rtol=1e-9, atol=1e-9)


def test_without_a_conflict_the_gradient_is_bit_identical_with_any_margin():
    g = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(gem_align(g, torch.stack([g, 2 * g]), margin=0.5)[0], g)


def test_tasks_with_nothing_in_memory_do_not_count():
    generator = torch.Generator().manual_seed(2)
    g, *references = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    available = torch.tensor([True, False, True])
    references = torch.stack([-g, *references[:2]]) * available[:, None]
    options = {"margin": 0.5, "eps": 1e-3, "scaled": False}
    direction, _ = gem_align(g, references, available=available, **options)
    expected, _ = gem_align(g, references[available], **options)
    torch.testing.assert_close(direction, expected)
    none_available = torch.zeros(3, dtype=torch.bool)
    assert torch.equal(gem_align(g, 0 * references, available=none_available)[0], g)


def test_a_negative_margin_is_refused():
    with pytest.raises(UserError, match=r"`method.margin` must be non-negative, found -1"):
        gem(-1.0, 1e-3, True)
