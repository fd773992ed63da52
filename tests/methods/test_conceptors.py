import pytest
import torch

from gradalign_cli.methods.conceptors import (
    GAIN,
    LARGEST,
    conceptor_and,
    conceptor_of,
    conceptor_or,
    leading_directions,
    without_small_values,
)

EYE = torch.eye(4).double()


def random_conceptor(seed, rank=4):
    """A conceptor of as many random inputs."""
    generator = torch.Generator().manual_seed(seed)
    return conceptor_of(torch.randn(4, rank, generator=generator).double(), 2.0, 0.0)


def diagonal(*values):
    return torch.diag(torch.tensor(values).double())


def test_it_is_the_regularised_projection_of_the_inputs():
    R = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).double()
    A = R @ R.T / 9
    expected = A @ torch.linalg.inv(A + EYE / 3.0**2)
    torch.testing.assert_close(conceptor_of(R, 3.0, 0.0), expected)


def test_the_aperture_grows_until_the_inputs_are_covered_and_no_further():
    R = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).double()

    def covered(C):
        return float((C @ R).norm(dim=0).sum() / R.norm(dim=0).sum())

    C = conceptor_of(R, 0.5, 0.95)
    assert covered(C) >= 0.95
    steps = 0
    while covered(conceptor_of(R, 0.5 * GAIN**steps, 0.0)) < 0.95:
        steps += 1
    torch.testing.assert_close(C, conceptor_of(R, 0.5 * GAIN**steps, 0.0))
    assert steps > 3


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_inputs_of_any_size_can_be_covered(scale):
    R = scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    C = conceptor_of(R, 1e-6, 0.9999)
    assert (C @ R.double()).norm(dim=0).sum() >= 0.9999 * R.double().norm(dim=0).sum() * (1 - 1e-9)


def test_inputs_of_zeros_have_the_conceptor_zero():
    assert not conceptor_of(torch.zeros(4, 3), 2.0, 0.95).any()


def test_either_is_the_conceptor_of_both_inputs():
    """With as many inputs each, the mean outer products add up."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4, 5, generator=generator).double()
    joined = torch.cat([first, second], 1) * 2**0.5  # the mean over ten is half of the sum
    joint_conceptor = conceptor_or(conceptor_of(first, 2.0, 0.0), conceptor_of(second, 2.0, 0.0))
    torch.testing.assert_close(joint_conceptor, conceptor_of(joined, 2.0, 0.0))


def test_both_and_either_obey_de_morgan():
    C, B = random_conceptor(0), random_conceptor(1)
    torch.testing.assert_close(EYE - conceptor_or(C, B), conceptor_and(EYE - C, EYE - B))
    torch.testing.assert_close(conceptor_and(C, B), conceptor_and(B, C))


def test_conceptors_with_the_same_directions_combine_value_by_value():
    c, b = 0.8, 0.4
    expected = c * b / (c + b - c * b)
    torch.testing.assert_close(
        conceptor_and(diagonal(c, c, 0, 0), diagonal(b, 0, b, 0)), diagonal(expected, 0, 0, 0)
    )
    expected = (c + b - 2 * c * b) / (1 - c * b)
    torch.testing.assert_close(
        conceptor_or(diagonal(c, c, 0, 0), diagonal(b, 0, b, 0)), diagonal(expected, c, b, 0)
    )


def test_both_is_zero_where_the_ranges_share_no_direction():
    assert conceptor_and(random_conceptor(0, 1), random_conceptor(1, 2)).abs().max() < 1e-12
    torch.testing.assert_close(
        conceptor_and(random_conceptor(0, 2), EYE * LARGEST),
        random_conceptor(0, 2),
        atol=1e-6,
        rtol=0,
    )


def test_a_conceptor_remains_below_one_however_often_inputs_are_added():
    C = random_conceptor(0)
    for _ in range(60):
        C = conceptor_or(C, C)  # the strengths double
    assert torch.linalg.eigvalsh(C).max() <= LARGEST + 1e-12
    torch.testing.assert_close(C, EYE, atol=1e-6, rtol=0)


def test_small_values_become_zero_and_leading_directions_are_the_largest():
    C = diagonal(0.3, 0.9, 0.1, 0.5)
    torch.testing.assert_close(without_small_values(C, 0.3), diagonal(0.3, 0.9, 0, 0.5))
    directions = leading_directions(C, 2)
    torch.testing.assert_close(directions.abs(), EYE[:, [1, 3]])


@pytest.mark.parametrize("seed", range(3))
def test_eigenvalues_are_between_zero_and_one(seed):
    C, B = random_conceptor(seed, 3), random_conceptor(seed + 10, 2)
    for combined in (C, conceptor_or(C, B), conceptor_and(C, B)):
        values = torch.linalg.eigvalsh(combined)
        assert values.min() > -1e-9
        assert values.max() < 1


@pytest.mark.parametrize("seed", range(4))
def test_leading_directions_do_not_depend_on_the_signs_of_an_eigenbasis(seed):
    generator = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(5, 5, generator=generator).double())[0]
    C = (U * torch.tensor([0.9, 0.7, 0.5, 0.3, 0.1]).double()) @ U.T
    largest = U.gather(0, U.abs().argmax(0, keepdim=True))
    torch.testing.assert_close(leading_directions(C, 5), U * largest.sign())
