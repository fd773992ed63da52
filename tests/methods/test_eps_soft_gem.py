import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.eps_soft_gem import eps_soft_gem, raise_dot_product
from tests.methods.given import align


def pairs():
    source = torch.Generator().manual_seed(0)
    for _ in range(50):
        yield torch.randn(2, 12, generator=source, dtype=torch.float64)


def test_the_product_reaches_the_bound_and_the_change_is_along_the_reference():
    for g, r in pairs():
        direction = align(eps_soft_gem(0.3), g, r[None])
        bound = 0.3 * g.norm() * r.norm()
        if g @ r >= bound:
            assert torch.equal(direction, g)
        else:
            torch.testing.assert_close(direction @ r, bound)
            change = direction - g
            torch.testing.assert_close(change.norm() * r.norm(), (change @ r).abs())


def test_with_eps_zero_it_is_agem():
    for g, r in pairs():
        torch.testing.assert_close(align(eps_soft_gem(0.0), g, r[None]), align(agem(), g, r[None]))


def test_a_zero_reference_leaves_the_gradient_alone():
    g = torch.tensor([1.0, -2.0])
    assert torch.equal(align(eps_soft_gem(0.5), g, torch.zeros(1, 2)), g)


def test_eps_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"`method.eps` must be in \[0, 1\], found 2.0"):
        eps_soft_gem(2.0)


def test_an_orthogonal_reference_is_approached_to_less_than_a_cosine_of_eps():
    """The bound is on the product, with the length of the gradient before it grows."""
    g, r = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    direction = raise_dot_product(g, r, torch.tensor(0.5))
    torch.testing.assert_close(direction @ r, 0.5 * g.norm() * r.norm())
    cosine = direction @ r / (direction.norm() * r.norm())
    torch.testing.assert_close(cosine, torch.tensor(0.2**0.5))  # 0.447
