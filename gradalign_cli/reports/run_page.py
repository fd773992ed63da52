"""`report.html` in the folder of a run: the run to look at."""

from pathlib import Path

from gradalign_cli.files.writing import write_atomically
from gradalign_cli.reports.group import group_replicas
from gradalign_cli.reports.page import report_page
from gradalign_cli.reports.plots import run_page_plots
from gradalign_cli.reports.report import report_of_groups
from gradalign_cli.reports.run import Reading, read_run

PAGE_NAME = "report.html"


def write_run_page(folder: Path, title: str) -> None:
    """Write the page of a finished run into its folder. Raises UserError where that is not
    possible."""
    run = read_run(folder)
    report = report_of_groups(group_replicas([run]), "ACC", None, Reading([run], [], []))
    page = report_page(report, title, run_page_plots(report.rows))
    write_atomically(folder / PAGE_NAME, page)
