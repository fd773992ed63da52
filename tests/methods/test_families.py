"""All methods that weigh or project gradients, on all families, in float32 and float64: scale,
order and precision do not matter, and independent solvers give the same directions."""

import numpy as np
import pytest
import quadprog
import torch
from scipy.optimize import minimize

from gradalign_cli.contract.families import DEGENERATE, FAMILIES, WELL_POSED
from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.methods.nash_mtl import bargaining_weights
from tests.methods.catalogue import method
from tests.methods.given import align, make_setup

EXACT_GEM = {"eps": 1e-12, "margin": 0.0}
WEIGHTED = ("mgda", "upgrad", "cagrad", "imtl_g", "aligned_mtl", "nash_mtl")
SYMMETRIC = (*WEIGHTED, "gem", "logd")
ONE_REFERENCE = ("agem", "s_gem", "agem_layerwise", "eps_soft_gem", "mega1", "mega2")
ALL = (*SYMMETRIC, "pcgrad", "gradvac", *ONE_REFERENCE)
CLOSE = 1e-4  # relative, in float32


def direction(name, J, dtype=torch.float64):
    """The direction of a method for a family, in float64; the last row is g."""
    settings = EXACT_GEM if name == "gem" else {}
    references = J[:1] if name in ONE_REFERENCE else J[:-1]
    gradients = make_gradients(J[-1].to(dtype), references.to(dtype))
    random_numbers = make_gradients(
        J[-1].double(), references
    ).random_numbers  # one order for both types
    state = method(name, **settings).init(make_setup(gradients.g, len(references) + 1))
    gradients = gradients._replace(random_numbers=random_numbers.to(dtype))
    return method(name, **settings).align(gradients, state)[0].double()


def assert_close(found, expected, relative, size):
    """The largest difference is small beside the expected direction, or beside rounding of what it
    is a sum of."""
    assert (found - expected).norm() <= relative * expected.norm() + 1e-6 * relative * size


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_direction_is_finite_and_no_longer_than_its_gradients(name, family, dtype):
    found = direction(name, FAMILIES[family], dtype)
    assert found.isfinite().all()
    assert found.norm() <= 3 * FAMILIES[family].norm(dim=1).sum()


@pytest.mark.parametrize("family", WELL_POSED)
@pytest.mark.parametrize("name", ALL)
def test_float32_gives_what_float64_gives(name, family):
    J = WELL_POSED[family].float().double()  # the same numbers for both
    expected = direction(name, J)
    assert_close(direction(name, J, torch.float32), expected, CLOSE, J.norm(dim=1).max())


@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1e15])
@pytest.mark.parametrize("family", ["five", "opposed", "correlated", "norms over 1e4", "one zero"])
@pytest.mark.parametrize("name", ALL)
def test_scaled_gradients_give_the_scaled_direction(name, family, scale):
    J = FAMILIES[family]
    expected = direction(name, J)
    for dtype, relative in ((torch.float64, 1e-6), (torch.float32, CLOSE)):
        found = direction(name, scale * J, dtype) / scale
        assert_close(found, expected, relative, J.norm(dim=1).max())


@pytest.mark.parametrize("family", WELL_POSED)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_order_of_the_references_does_not_matter(name, family):
    J = WELL_POSED[family]
    expected = direction(name, J)
    reversed_order = torch.cat([J[:-1].flip(0), J[-1:]])
    assert_close(direction(name, reversed_order), expected, 1e-6, J.norm(dim=1).max())


def minimiser(P, q, lower, total=None):
    """argmin 1/2 v'Pv + q'v, v >= lower, and sum(v) = total where there is one, by quadprog."""
    n = len(q)
    P = P + 1e-13 * np.trace(P) / n * np.eye(n)
    constraints, bounds, equalities = np.eye(n), np.asarray(lower, float), 0
    if total is not None:
        constraints = np.concatenate([np.ones((n, 1)), constraints], 1)
        bounds, equalities = np.concatenate([[total], bounds]), 1
    return quadprog.solve_qp(P, -np.asarray(q, float), constraints, bounds, equalities)[0]


def unit_rows(J):
    """Rows of length 1, and their lengths."""
    lengths = np.linalg.norm(J, axis=1)
    return J / np.where(lengths > 0, lengths, 1)[:, None], lengths


@pytest.mark.parametrize("family", FAMILIES)
def test_mgda_is_the_shortest_convex_combination(family):
    """Its optimality condition: no gradient has a smaller product with it than its own square."""
    J = FAMILIES[family]
    found = direction("mgda", J)
    size = J.norm(dim=1).max()
    assert ((J @ found) >= found @ found - 1e-5 * size * found.norm() - 1e-9 * size**2).all()


@pytest.mark.parametrize("family", WELL_POSED)
def test_upgrad_is_the_mean_of_projections_onto_the_dual_cone(family):
    J = WELL_POSED[family].numpy()
    U, lengths = unit_rows(J)
    expected = sum(
        length * minimiser(U @ U.T, np.zeros(len(J)), unit) @ U
        for length, unit in zip(lengths, np.eye(len(J)), strict=True)
    ) / len(J)
    assert_close(direction("upgrad", WELL_POSED[family]), torch.tensor(expected), 1e-5, 0)


@pytest.mark.parametrize("family", WELL_POSED)
def test_gem_is_the_nearest_direction_that_hurts_no_reference(family):
    J = WELL_POSED[family].numpy()
    U, _ = unit_rows(J[:-1])
    g = J[-1] / np.linalg.norm(J[-1])
    expected = (g + minimiser(U @ U.T, U @ g, np.zeros(len(U))) @ U) * np.linalg.norm(J[-1])
    size = J.max()
    assert_close(direction("gem", WELL_POSED[family]), torch.tensor(expected), 1e-5, size)


@pytest.mark.parametrize("family", WELL_POSED)
def test_cagrad_is_the_best_worst_case_within_reach(family):
    """Against the dual of the paper: the best worst case is min_w g_w'g0 + c |g0| |g_w|."""
    U, lengths = unit_rows(WELL_POSED[family].numpy())
    J = U * (lengths / lengths.max())[:, None]  # the reach is relative, so that the scale is free
    g0, n, reach = J.mean(0), len(J), 0.5
    found = align(
        method("cagrad", c=reach), *(torch.tensor(part) for part in (J[-1], J[:-1]))
    ).numpy()
    distance = np.linalg.norm(found - g0)
    assert distance <= reach * np.linalg.norm(g0) * (1 + 1e-6)

    def dual(w):
        return w @ J @ g0 + reach * np.linalg.norm(g0) * np.linalg.norm(w @ J)

    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    options = {"bounds": [(0, 1)] * n, "constraints": simplex, "options": {"ftol": 1e-15}}
    starts = np.full(n, 1 / n), *np.eye(n)
    best = min(minimize(dual, start, **options).fun for start in starts)
    rounding = 1e-6 * np.linalg.norm(g0) * lengths.min() / lengths.max() + 1e-9
    assert (J @ found).min() >= best - rounding


@pytest.mark.parametrize("family", WELL_POSED)
def test_imtl_g_has_equal_projections_on_all_gradients(family):
    J = WELL_POSED[family]
    projections = J @ direction("imtl_g", J) / J.norm(dim=1)
    torch.testing.assert_close(
        projections, projections.mean().expand_as(projections), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("family", WELL_POSED)
def test_nash_mtl_weights_are_inverse_to_the_gains(family):
    """K a = 1 / a: a_i g_i'd is the same for all i, with d = J'a."""
    J = WELL_POSED[family]
    K = J @ J.T
    a = bargaining_weights(K, torch.ones(len(J), dtype=torch.bool))
    gains = a * (K @ a)
    torch.testing.assert_close(gains, gains.mean().expand_as(gains), rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_aligned_mtl_has_the_singular_vectors_and_one_singular_value(family, dtype):
    J = FAMILIES[family].to(dtype)
    U, S, V = torch.linalg.svd(J.double(), full_matrices=False)
    if family in DEGENERATE:
        rank = {"one zero": 3, "duplicate": 2, "collinear": 2, "rank-deficient": 2}.get(family)
        if rank is None:
            return  # near-collinear gradients are dependent in float32 and not in float64
    else:
        rank = len(J)
    aligned = S[rank - 1] * U[:, :rank] @ V[:rank]
    found = direction("aligned_mtl", J.double(), dtype)
    assert_close(found, aligned.mean(0), CLOSE if dtype == torch.float32 else 1e-5, 0)
