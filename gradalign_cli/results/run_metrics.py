"""What `metrics.json` holds: the metrics of each replica, and their summary."""

from typing import Any

from gradalign_cli.results.metrics import Convention, continual_evaluation_metrics, metrics, summary
from gradalign_cli.training.outcome import Outcome

MetricsJson = dict[str, Any]  # the content of metrics.json, by its keys


def run_metrics(
    outcome: Outcome, replica_settings: list[dict[str, float]], convention: Convention
) -> MetricsJson:
    """The metrics of all replicas of a run, and their summaries by setting.

    replica_settings: of each replica by name, such as seed and lr.  convention: see `metrics`.
    """
    values = [replica_metrics(outcome, r, convention) for r in range(len(outcome.accuracy))]
    settings = [
        setting | summary([values[r] for r in replicas])
        for setting, replicas in replicas_by_setting(replica_settings)
    ]
    return {
        "convention": convention,
        "replicas": [
            setting | metrics for setting, metrics in zip(replica_settings, values, strict=True)
        ],
        "settings": settings,
    }


def replicas_by_setting(
    replica_settings: list[dict[str, float]],
) -> list[tuple[dict[str, float], list[int]]]:
    """Each combination of all numbers but the seed, and the replicas [n] that have it. Means and
    intervals are over the seeds of one setting, never over settings."""
    settings: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for r, numbers in enumerate(replica_settings):
        setting = tuple((name, value) for name, value in numbers.items() if name != "seed")
        settings.setdefault(setting, []).append(r)
    return [(dict(setting), replicas) for setting, replicas in settings.items()]


def replica_metrics(outcome: Outcome, r: int, convention: Convention) -> dict[str, float]:
    """The metrics of replica number `r`; of class-incremental runs also those with each task's own
    logits alone (`ACC_task`, ...), and those of tests between the steps where there were any."""
    curves = outcome.learning_curves
    values = metrics(outcome.accuracy[r], None if curves is None else curves[r], convention)
    if outcome.task_logits_accuracy is not None:
        task_values = metrics(outcome.task_logits_accuracy[r], None, convention)
        values |= {f"{name}_task": value for name, value in task_values.items()}
    if outcome.continual_accuracy is not None:
        learned_task = outcome.continual_moments[r][:, 0]
        values |= continual_evaluation_metrics(outcome.continual_accuracy[r], learned_task)
    return values
