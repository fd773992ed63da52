"""The sign-permutation test and the paired interval."""

import numpy as np
import pytest

from gradalign_cli.results.significance import (
    EXACT_SEEDS,
    least_exact_p_value,
    paired_difference,
    sign_permutation_p,
)


def test_equal_signs_give_the_smallest_p_value():
    for n in (2, 3, 6):
        assert sign_permutation_p(np.arange(1.0, n + 1)) == pytest.approx(least_exact_p_value(n))
        assert sign_permutation_p(-np.arange(1.0, n + 1)) == pytest.approx(least_exact_p_value(n))


def test_differences_that_cancel_and_differences_of_nothing_have_p_1():
    assert sign_permutation_p(np.array([1.0, -1.0])) == 1
    assert sign_permutation_p(np.zeros(4)) == 1


def test_equal_differences_round_to_no_other_p_value():
    assert sign_permutation_p(np.full(3, 0.1)) == pytest.approx(0.25)


def test_drawn_signs_agree_with_all_signs():
    values = np.random.default_rng(1).normal(0.4, 1, EXACT_SEEDS)
    drawn = sign_permutation_p(np.append(values, 0.0))  # the zero changes no sum
    assert drawn == pytest.approx(sign_permutation_p(values), abs=0.01)


def test_many_seeds_are_never_certain():
    assert sign_permutation_p(np.ones(40)) == pytest.approx(1 / 20_001)


def test_one_seed_has_a_difference_and_no_interval():
    assert paired_difference([0.5]) == (0.5, None, None, 1, None)


def test_equal_differences_have_an_interval_of_no_width():
    difference = paired_difference([0.25, 0.25, 0.25])
    assert difference.low == difference.mean == difference.high == 0.25
