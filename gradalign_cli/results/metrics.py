"""Metrics of an accuracy matrix R [T + 1, T]; row 0 is the untrained network, row i after task i.

ACC, BWT and FWT are defined as in GEM (Lopez-Paz and Ranzato 2017, eq. 2-4), forgetting and LCA as
in A-GEM (Chaudhry et al. 2019). The papers' own code departs from them, and `convention` follows
it: gem averages BWT and FWT over T instead of T - 1; agem takes LCA by the trapezoid rule.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gradalign_cli.errors import UserError, require_choice
from gradalign_cli.results.significance import t_quantile

Convention = Literal["standard", "gem", "agem"]
Array = np.ndarray


def accuracy_matrix(R: ArrayLike) -> Array:
    """The matrix [T + 1, T] as an array; UserError where it is none of fractions and NaN."""
    problem = ""
    try:
        matrix = np.asarray(R, dtype=float)
    except (TypeError, ValueError, RuntimeError):
        matrix, problem = np.zeros(0), f"found {type(R).__name__}"
    if not problem and (matrix.ndim != 2 or len(matrix) != matrix.shape[1] + 1 or len(matrix) < 2):
        problem = f"found one of shape {list(matrix.shape)}"
    if not problem and ((matrix < 0) | (matrix > 1)).any():
        problem = f"found {matrix[(matrix < 0) | (matrix > 1)][0]:g} in it"
    if problem:
        raise UserError(f"`R` must be a matrix [T + 1, T] of fractions, {problem}")
    return matrix


def forgetting_matrix(R: ArrayLike) -> Array:
    """F [T + 1, T]: for tasks i and j, counted from 1, the best accuracy on task j after an earlier
    task than i, minus that after task i; NaN where j >= i, and in row 0."""
    R = accuracy_matrix(R)
    F = np.full_like(R, np.nan)
    for i in range(2, len(R)):
        F[i, : i - 1] = R[1:i, : i - 1].max(0) - R[i, : i - 1]
    return F


def metrics(
    R: ArrayLike, learning_curves: Array | None = None, convention: Convention = "standard"
) -> dict[str, float]:
    """All metrics of one replica, as fractions.

    learning_curves: [T, B + 1] the accuracy on each task after 0, 1, ... B batches of it, for LCA,
    which is left out where they are None. With one task BWT, FWT and forgetting are not defined and
    left out.
    """
    require_choice(Convention, "convention", convention)
    R = accuracy_matrix(R)
    T = R.shape[1]
    b, A = R[0], R[1:]  # A [T, T]: row i after task i + 1
    values = {"ACC": A[-1].mean()}
    if T > 1:
        pairs = T if convention == "gem" else T - 1
        values["BWT"] = (A[-1] - A.diagonal())[:-1].sum() / pairs
        values["FWT"] = (A.diagonal(1) - b[1:]).sum() / pairs
        values["forgetting"] = (A[:-1, :-1].max(0) - A[-1, :-1]).mean()
    values["LA"] = A.diagonal().mean()
    values["AAA"] = np.mean([A[i, : i + 1].mean() for i in range(T)])
    if learning_curves is not None:
        Z = learning_curves.mean(0)
        name = f"LCA{len(Z) - 1}"
        values[name] = (Z[1:] + Z[:-1]).mean() / 2 if convention == "agem" else Z.mean()
    return {name: float(value) for name, value in values.items()}


def continual_evaluation_metrics(accuracy_per_test: Array, learned_task: Array) -> dict[str, float]:
    """The metrics of tests between the steps; none with one task.

    accuracy_per_test: [S, T] on every task so far in each of S tests;  learned_task: [S] the task
    that was being learned. min_ACC is the mean, over all tasks but the last, of their lowest
    accuracy after they were learned. WC_ACC is the final accuracy on the last task / T + (1 - 1 /
    T) min_ACC (De Lange et al. 2023, arXiv 2205.13452, eq. 2 and 3). stability_gap says how far the
    accuracy on an earlier task drops while a task is learned, below both its value before and its
    value after; it is the mean over all pairs of a task and an earlier one.
    """
    T = accuracy_per_test.shape[1]
    if T == 1:
        return {}
    last_test = [int(np.flatnonzero(learned_task == k)[-1]) for k in range(T)]
    min_acc = np.mean([accuracy_per_test[learned_task > i, i].min() for i in range(T - 1)])
    gaps = [
        max(
            0.0,
            min(accuracy_per_test[last_test[k - 1], i], accuracy_per_test[last_test[k], i])
            - accuracy_per_test[learned_task == k, i].min(),
        )
        for k in range(1, T)
        for i in range(k)
    ]
    wc_acc = accuracy_per_test[-1, -1] / T + (1 - 1 / T) * min_acc
    values = {"min_ACC": min_acc, "WC_ACC": wc_acc, "stability_gap": np.mean(gaps)}
    return {name: float(value) for name, value in values.items()}


def summary(
    metrics_by_replica: Sequence[dict[str, float]],
) -> dict[str, dict[str, float | int | None]]:
    """For each metric its mean, standard deviation and 95% t-interval over replicas, and their
    number n. Deviation and interval are None for one replica.

    metrics_by_replica: the metrics of each replica, by name.
    """
    summaries = {}
    for name in metrics_by_replica[0]:
        values = np.array([replica[name] for replica in metrics_by_replica])
        n, mean = len(values), float(values.mean())
        std = float(values.std(ddof=1)) if n > 1 else None
        half_width = None if std is None else t_quantile(n - 1) * std / n**0.5
        summaries[name] = {
            "mean": mean,
            "std": std,
            "ci95_low": None if half_width is None else mean - half_width,
            "ci95_high": None if half_width is None else mean + half_width,
            "n": n,
        }
    return summaries
