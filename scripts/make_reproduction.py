"""Write docs/reproduction.md and a page for each table in docs/reproduction from docs/results.

gradalign reproduce TABLE
cp outputs/tables/TABLE/table.json docs/results/TABLE.json
python scripts/make_reproduction.py

Needs no extra.
"""

import json
from pathlib import Path
from typing import Any

from gradalign_cli.composition.paths import CONF
from gradalign_cli.tables.ranks import method_ranks
from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import Table, load_table, table_names
from gradalign_cli.tables.verdict import TableRow, paired_comparisons, table_rows
from gradalign_cli.tables.writing import markdown, score_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
HEAD = """# Reproduction

What the papers printed beside what gradalign gives, for every table that `gradalign reproduce`
knows. The pages are written by `scripts/make_reproduction.py` from docs/results.

What a verdict means:

- **within**: our mean differs from the print by no more than the tolerance. Each table states its
  tolerances at its head, with their reasons.
  Its interval does not count here and can be wide, where few seeds differ much.
- **above**, **below**: it differs by more.
- **too few seeds**: it differs by more, but chance alone could make such a difference: its 95 %
  interval by Welch's test has 0 in it. The interval is from the spread of our seeds and, where the
  paper tells it, that of its runs. A single seed of ours counts as one more run of the paper, and
  where the paper tells no spread, one seed outside of the tolerance is always too few. More seeds
  may bring such a number within or not. It counts as judged and not as within.
- **not judged**: the print is known from memory alone and marked as unverified, or the paper does
  not print this metric, or no run is kept. Most runs that are not there need something that we
  lack.
- **explained**: above, below or too few seeds, for a reason that we know, or as the authors' own
  code is off in the same way. The reason stands beside the verdict and changes nothing of it.

A-GEM's Tables 3 and 4 print eight numbers twice, those of GEM and A-GEM, and GEM's Figure 1 and
Table 3 one, that of rotations. All of them that have runs are judged in both, by the tolerance of
each, and count twice. One set of runs stands in both.

A setting that a paper does not tell is ours, and the page says so. One was chosen by the outcome:
the pixels of GPM's four rivals on Permuted MNIST, on which eight of the judged numbers rest.

Where the first seeds of a short cell were outside of the tolerance, more were run, mostly ten in
all. All seeds that end are shown.

The runs are of several versions of gradalign, as not every release repeats them all. The foot of
each page names them; of a cell that was run in parts, that of the first. A page says where a run is
known to be of other settings than its cell.

The column *time* is that of all seeds of a cell together, training and tests. Of a cell that was
not run it is the minutes that a seed should take, by a run that had begun. The
machine had mostly two CPU cores, and often other work, for which some runs paused. Nine cells that
could be run have no such number. Seven of them take hours a seed without a GPU (GPM's AlexNet on
CIFAR-100). The others are GEM with 5,120 examples of CIFAR-100, in Table 2 and Figure 1, which
needs more memory than there was.
"""


def stored_results(folder: Path, table: Table) -> dict[str, Result]:
    """The results in a folder of those cells of a table that it has, by the cell's name."""
    file = folder / f"{table.name}.json"
    if not file.is_file():
        return {}
    results = json.loads(file.read_text())["results"]
    return {
        cell.name: result_from_json(results[cell.name])
        for cell in table.cells
        if cell.name in results
    }


def result_from_json(entries: dict[str, Any]) -> Result:
    """The result with these entries of table.json, where seeds are text."""
    seeds = {int(seed): metrics for seed, metrics in entries["seeds"].items()}
    return Result(**{**entries, "seeds": seeds})


def machine_texts(results: dict[str, Result]) -> list[str]:
    """The versions and the hardware that the results come from, each once."""
    texts = {
        f"gradalign {machine.get('gradalign')}, commit {str(machine.get('git_commit'))[:7]}, torch "
        f"{machine.get('torch')}, {machine.get('device_name', machine.get('device'))}, "
        f"{machine.get('threads')} thread(s)"
        for machine in (result.machine for result in results.values())
    }
    return sorted(texts)


def all_rows(table: Table, results: dict[str, Result]) -> list[TableRow]:
    """The rows of all cells of a table."""
    return [
        row for cell in table.cells for row in table_rows(cell, results.get(cell.name), quick=False)
    ]


def reproduction_pages(folder: Path) -> dict[str, str]:
    """The text of docs/reproduction.md and of the page of each table, by their paths in docs, from
    the results in a folder."""
    pages, overview = {}, ["| table | standing |", "|---|---|"]
    for name in table_names(CONF):
        table = load_table(CONF, name)
        results = stored_results(folder, table)
        rows = all_rows(table, results)
        standing = score_text(rows) if results else "not run"
        overview.append(f"| [{table.title}](reproduction/{name}.md) | {standing} |")
        comparisons = paired_comparisons(results, "ACC")
        text = markdown(table, rows, comparisons, method_ranks(table, results, "ACC"))
        if results:
            text += "\nOf: " + "; ".join(machine_texts(results)) + ".\n"
        pages[f"reproduction/{name}.md"] = text
    return {"reproduction.md": "\n".join([HEAD, *overview, ""]), **pages}


if __name__ == "__main__":
    (DOCS / "reproduction").mkdir(exist_ok=True)
    for path, text in reproduction_pages(DOCS / "results").items():
        (DOCS / path).write_text(text)
