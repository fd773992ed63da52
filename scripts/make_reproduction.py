"""Write docs/reproduction.md, and the last column of the table in docs/methods.md, from the results
kept in docs/results, one json file a table.

gradalign reproduce TABLE
cp outputs/tables/TABLE/table.json docs/results/TABLE.json
python scripts/make_reproduction.py
"""

import json
import re
from pathlib import Path
from typing import Any

from gradalign_cli.composition.compose import composed
from gradalign_cli.composition.paths import CONF
from gradalign_cli.tables.ranks import ranks
from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import Table, load, names
from gradalign_cli.tables.verdict import comparisons, rows
from gradalign_cli.tables.writing import markdown, score

DOCS = Path(__file__).resolve().parents[1] / "docs"
HEAD = """# Reproduction

What the papers printed beside what gradalign gives, for every table that `gradalign reproduce`
knows. Written by `scripts/make_reproduction.py` from docs/results; a cell says "not run" where
nothing is kept. A verdict compares our mean with the print by the tolerance that the table's file
in conf/table states, with its reason; where ours is off and we know why, that stands beside the
verdict and changes nothing of it. Numbers known from memory alone are shown and not judged.
"""


def kept(folder: Path, table: Table) -> dict[str, Result]:
    """The results kept for the table's cells."""
    file = folder / f"{table.name}.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text())["results"]
    return {cell.name: result(found[cell.name]) for cell in table.cells if cell.name in found}


def result(found: dict[str, Any]) -> Result:
    """A result as json keeps it, whose seeds have become text."""
    seeds = {int(seed): metrics for seed, metrics in found["seeds"].items()}
    return Result(**{**found, "seeds": seeds})


def machines(results: dict[str, Result]) -> list[str]:
    """Which versions and hardware the results are of."""
    told = {
        f"gradalign {own.get('gradalign')}, commit {str(own.get('git_commit'))[:7]}, torch "
        f"{own.get('torch')}, {own.get('device_name', own.get('device'))}, "
        f"{own.get('threads')} thread(s)"
        for own in (r.machine for r in results.values())
    }
    return sorted(told)


def page(folder: Path) -> str:
    """The whole document."""
    parts, overview = [], ["| table | standing |", "|---|---|"]
    for name in names(CONF):
        table = load(CONF, name)
        found = kept(folder, table)
        made = [row for cell in table.cells for row in rows(cell, found.get(cell.name), False)]
        standing = score(made) if found else "not run"
        overview.append(f"| {table.title} | {standing} |")
        parts.append(
            markdown(table, made, comparisons(found, "ACC"), ranks(table, found, "ACC"), level=2)
        )
        if found:
            parts.append("Of: " + "; ".join(machines(found)) + ".\n")
    return "\n".join([HEAD, *overview, "", *parts])


def reproduced(folder: Path) -> dict[str, str]:
    """Our ACC / the published one in percent, for each method with a judged cell: of the one within
    its tolerance that has the most seeds, if any is, and the first of equals."""
    best: dict[str, tuple[bool, int, str]] = {}
    for name in names(CONF):
        table = load(CONF, name)
        found = kept(folder, table)
        for cell in table.cells:
            for row in rows(cell, found.get(cell.name), False):
                if row.mean is None or row.metric != "ACC" or row.verdict.startswith("not judged"):
                    continue
                method = composed(CONF, cell.overrides)[1]["method"]
                text = f"{100 * row.mean:.1f} / {100 * row.published:.1f}"
                own = (row.verdict == "within", row.n, text)
                if own[:2] > best.get(method, (False, 0, ""))[:2]:
                    best[method] = own
    return {method: text for method, (*_, text) in best.items()}


def with_last_column(text: str, numbers: dict[str, str]) -> str:
    """docs/methods.md with these numbers in the rows of their methods."""

    def row(found: re.Match[str]) -> str:
        return f"{found['head']} {numbers.get(found['name'], '-')} |"

    line = r"^(?P<head>\| (?P<name>(?!method)\w+) \|.*\|) [^|]* \|$"
    return re.sub(line, row, text, flags=re.MULTILINE)


if __name__ == "__main__":
    (DOCS / "reproduction.md").write_text(page(DOCS / "results"))
    methods = DOCS / "methods.md"
    methods.write_text(with_last_column(methods.read_text(), reproduced(DOCS / "results")))
