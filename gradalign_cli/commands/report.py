"""`gradalign report DIR...`: one table over run folders, in every form."""

import sys
from pathlib import Path

from gradalign_cli.commands.page import page_console
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.errors import UserError, require
from gradalign_cli.files.writing import make_folder, write_atomically
from gradalign_cli.reports.files import write_figures
from gradalign_cli.reports.page import report_page
from gradalign_cli.reports.plots import report_plots
from gradalign_cli.reports.report import Report, make_report
from gradalign_cli.reports.text import notes
from gradalign_cli.reports.writing import comma_separated, latex, markdown, terminal_table
from gradalign_cli.results.final_files import LAST_FILE


def main(arguments: list[str]) -> int:
    """Read the runs, print their table and write it; returns the exit code."""
    parser = VerbParser(
        prog="gradalign report", description="One table over run folders, in every form."
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="runs, or what has runs in it")
    parser.add_argument("--by", default="ACC", metavar="METRIC", help="sort and compare by it")
    parser.add_argument("--baseline", metavar="ROW", help="a row, as `method=finetune`")
    parser.add_argument("--where", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--out", default="outputs/report", metavar="DIR", help="where it is written"
    )
    parser.add_argument("--figures", metavar="DIR", help="also PDF, SVG and PNG for a paper")
    options = parser.parse_args(arguments)
    check_output_folder("--out", options.out)
    if options.figures is not None:
        check_output_folder("--figures", options.figures)
    report = make_report(map(Path, options.folders), options.by, options.baseline, options.where)
    title = ", ".join(Path(folder).resolve().name for folder in options.folders)
    show_and_write(report, Path(options.out), title, options.figures and Path(options.figures))
    return 0


def check_output_folder(option: str, folder_text: str) -> None:
    """Raise UserError unless files can be written to this folder, and it is that of no run, which
    has a page of its own."""
    folder = Path(folder_text)
    is_free = folder_text and (folder.is_dir() or not folder.exists())
    require(bool(is_free), option, "the path of a folder", folder_text)
    if (folder / LAST_FILE).exists() or (folder / "record.json").exists():
        raise UserError(f"`{option}` must be a folder beside the runs, found a run in {folder}")


def show_and_write(
    report: Report, output_folder: Path, title: str, figures_folder: Path | None = None
) -> None:
    """Print the table, its notes and warnings, and write it in every form to `output_folder`.

    title: of the page;  figures_folder: where figures for a paper are written, None: nowhere.
    """
    make_folder(output_folder)
    for sentence in report.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    console = page_console()
    console.print(terminal_table(report.rows, report.sort_metric))
    for note in notes(report.rows, report.sort_metric):
        console.print(note, soft_wrap=True)
    write_atomically(output_folder / "report.csv", comma_separated(report.rows, report.sort_metric))
    write_atomically(
        output_folder / "report.md", markdown(report.rows, report.sort_metric, report.warnings)
    )
    write_atomically(output_folder / "report.tex", latex(report.rows, report.sort_metric))
    plots = report_plots(report.rows)
    write_atomically(output_folder / "report.html", report_page(report, title, plots))
    console.print(f"written to {output_folder}: report.html, .csv, .md, .tex", soft_wrap=True)
    if figures_folder is not None:
        write_figures(plots, figures_folder)
        console.print(f"{len(plots)} figures in {figures_folder}", soft_wrap=True)
