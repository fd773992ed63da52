"""Whether two settings differ, by their values on the same seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EXACT_SEEDS = 14  # with more, signs are drawn at random
DRAWN_SIGNS = 20_000


class PairedDifference(NamedTuple):
    """The first minus the second setting over the seeds that both have.

    mean: over these seeds;  low, high: its 95% t-interval, None with one seed;  n: the number of
    seeds;  p_value: of the sign-permutation test, None with one seed.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    p_value: float | None


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t distribution: a 95 % interval reaches so many standard
    errors to either side."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(freedom, 0.975))


def paired_difference(differences: Sequence[float]) -> PairedDifference:
    """What the differences [n] of n seeds tell of their mean."""
    values = np.asarray(differences, dtype=float)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return PairedDifference(mean, None, None, 1, None)
    half_width = t_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    p_value = sign_permutation_p(values)
    return PairedDifference(mean, mean - half_width, mean + half_width, n, p_value)


def sign_permutation_p(differences: np.ndarray) -> float:
    """The two-sided p-value of the differences [n] under all changes of their signs (Fisher 1935):
    the share of the 2^n sums that lie at least as far from 0 as the sum that was seen.

    Above 14 differences it is estimated from 20,000 drawn signs, which a fixed seed draws; the
    signs that were seen count as one more draw, so that it is never 0.
    """
    n, seen = len(differences), abs(differences.sum())
    if n <= EXACT_SEEDS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (DRAWN_SIGNS, n))
        signs = np.vstack([np.ones(n), signs])
    tolerance = 1e-12 * float(np.abs(differences).sum())  # sums of the same numbers may round
    return float((np.abs(signs @ differences) >= seen - tolerance).mean())


def least_exact_p_value(difference_count: int) -> float:
    """The smallest p-value that so many differences can have in the exact test."""
    return float(2.0 ** (1 - difference_count))


def holm_corrected(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected for their number by Holm (1979), in the same
    order."""
    corrected, largest = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return [float(p) for p in corrected]
