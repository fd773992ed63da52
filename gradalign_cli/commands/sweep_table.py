"""What a sweep shows at its end: a row for each job."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from gradalign_cli.composition.hydra_jobs import JobOutcome
from gradalign_cli.errors import UserError
from gradalign_cli.files.reading import read_json
from gradalign_cli.results.display import mean_with_interval, setting_text

LARGEST_METRICS = 2**26  # bytes of a metrics.json
METRICS = ("ACC", "forgetting")


def sweep_table(outcomes: Sequence[JobOutcome]) -> Table:
    """Of each job of a sweep, and of each setting of its replicas, the overrides, the main metrics
    with their 95% intervals over seeds in percent, the number of seeds, and the folder."""
    table = Table(caption="in percent", caption_justify="left")
    table.add_column("job", overflow="fold")
    for name in ("n", *METRICS):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for outcome in outcomes:
        for setting, *metrics in seed_averaged_rows(outcome):
            job = f"{outcome.swept_overrides}{setting}"
            table.add_row(job, *metrics, "" if is_failed(outcome) else outcome.folder.name)
    return table


def is_failed(outcome: JobOutcome) -> bool:
    """Whether a job failed."""
    return math.isnan(outcome.objective_value)


def seed_averaged_rows(outcome: JobOutcome) -> list[list[str]]:
    """Of each setting of a job what tells it from the job's others, its seeds, and its metrics."""
    if is_failed(outcome):
        return [["", "", "failed", ""]]
    try:
        settings: list[dict[str, Any]] = read_json(
            outcome.folder / "metrics.json", LARGEST_METRICS
        )["settings"]
    except UserError:  # a launcher may have run the job where its files cannot be seen
        return [["", "", f"{100 * outcome.objective_value:.2f}", ""]]
    return [
        [
            setting_text(setting, settings),
            str(setting["ACC"]["n"]),
            *(mean_with_interval(setting[name]) if name in setting else "" for name in METRICS),
        ]
        for setting in settings
    ]
