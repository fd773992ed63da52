"""Metrics of an accuracy matrix R [T + 1, T]; row 0 is the untrained network, row i after task i.

Definitions follow GEM (eq. 2-4) for ACC, BWT and FWT, and A-GEM for forgetting and LCA. The papers'
own code departs from them: `convention` gem averages BWT and FWT over T instead of T - 1; agem
takes LCA by the trapezoid rule.
"""

from collections.abc import Sequence

import numpy as np

CONVENTIONS = ("standard", "gem", "agem")
Array = np.ndarray


def forgetting_matrix(R: Array) -> Array:
    """F [T + 1, T]: the best earlier accuracy minus the present one; NaN where j >= i."""
    F = np.full_like(R, np.nan)
    for i in range(2, len(R)):
        F[i, : i - 1] = R[1:i, : i - 1].max(0) - R[i, : i - 1]
    return F


def metrics(
    R: Array, learning: Array | None = None, convention: str = "standard"
) -> dict[str, float]:
    """All metrics of one replica, as fractions.

    learning: [T, B + 1] accuracy on task k after 0..B batches of it, for LCA. With one task BWT,
    FWT and forgetting are not defined and left out.
    """
    T = R.shape[1]
    b, A = R[0], R[1:]
    found = {"ACC": A[-1].mean()}
    if T > 1:
        pairs = T if convention == "gem" else T - 1
        found["BWT"] = (A[-1] - A.diagonal())[:-1].sum() / pairs
        found["FWT"] = (A.diagonal(1) - b[1:]).sum() / pairs
        found["forgetting"] = (A[:-1, :-1].max(0) - A[-1, :-1]).mean()
    found["LA"] = A.diagonal().mean()
    found["AAA"] = np.mean([A[i, : i + 1].mean() for i in range(T)])
    if learning is not None:
        Z = learning.mean(0)
        name = f"LCA{len(Z) - 1}"
        found[name] = (Z[1:] + Z[:-1]).mean() / 2 if convention == "agem" else Z.mean()
    return {name: float(value) for name, value in found.items()}


def continual_metrics(A: Array, task: Array) -> dict[str, float]:
    """What accuracies [S, T] between the steps add; row s was taken while `task[s]` was learned.

    min_ACC: mean over all tasks but the last of their lowest accuracy once they are over; WC_ACC:
    the last task's final accuracy / T + (1 - 1 / T) min_ACC (De Lange et al. 2023, arXiv
    2205.13452, eq. 2 and 3). stability_gap: how far an earlier task drops while a task is learned,
    below both where it was before and where it is after; mean over all such pairs.
    """
    T = A.shape[1]
    if T == 1:
        return {}
    last = [int(np.flatnonzero(task == k)[-1]) for k in range(T)]
    lowest = np.mean([A[task > i, i].min() for i in range(T - 1)])
    gaps = [
        max(0.0, min(A[last[k - 1], i], A[last[k], i]) - A[task == k, i].min())
        for k in range(1, T)
        for i in range(k)
    ]
    worst = A[-1, -1] / T + (1 - 1 / T) * lowest
    found = {"min_ACC": lowest, "WC_ACC": worst, "stability_gap": np.mean(gaps)}
    return {name: float(value) for name, value in found.items()}


def summary(replicas: Sequence[dict[str, float]]) -> dict[str, dict[str, float | int | None]]:
    """Mean, standard deviation and 95% t-interval of each metric over replicas."""
    from scipy.stats import t as student

    found = {}
    for name in replicas[0]:
        values = np.array([replica[name] for replica in replicas])
        n, mean = len(values), float(values.mean())
        std = float(values.std(ddof=1)) if n > 1 else None
        half = None if std is None else float(student.ppf(0.975, n - 1)) * std / n**0.5
        found[name] = {
            "mean": mean,
            "std": std,
            "ci95_low": None if half is None else mean - half,
            "ci95_high": None if half is None else mean + half,
            "n": n,
        }
    return found
