"""docs/reproduction.md and the pages of its tables agree with docs/results."""

from pathlib import Path

from gradalign_cli.composition.paths import CONF
from gradalign_cli.tables.table import load_table, table_names
from tests.script_modules import load_script

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "results"


def make_reproduction():
    """scripts/make_reproduction.py as a module."""
    return load_script("make_reproduction")


def test_the_pages_show_the_stored_results():
    """If not: python scripts/make_reproduction.py"""
    pages = make_reproduction().reproduction_pages(RESULTS)
    files = [DOCS / "reproduction.md", *(DOCS / "reproduction").iterdir()]
    assert {str(file.relative_to(DOCS)): file.read_text() for file in files} == pages
    assert len(pages) == 14


def test_the_readme_says_how_many_numbers_are_judged_and_within():
    script = make_reproduction()
    tables = [load_table(CONF, name) for name in table_names(CONF)]
    rows = [
        row
        for table in tables
        for row in script.all_rows(table, script.stored_results(RESULTS, table))
        if not row.verdict.startswith("not judged")
    ]
    within = sum(row.verdict == "within" for row in rows)
    readme = " ".join((DOCS.parent / "README.md").read_text().split())
    assert f"{len(rows)} numbers are judged and {within} of them are within" in readme
    assert min(row.n for row in rows) >= 3
    assert "Each rests on at least three seeds" in readme


def test_cells_of_two_tables_with_the_same_overrides_show_the_same_runs():
    script, seen = make_reproduction(), {}
    for name in table_names(CONF):
        table = load_table(CONF, name)
        results = script.stored_results(RESULTS, table)
        for cell in table.cells:
            if cell.name in results:
                seen.setdefault(frozenset(cell.overrides), []).append(results[cell.name].seeds)
    shared = [runs for runs in seen.values() if len(runs) > 1]
    assert shared
    assert all(other == runs[0] for runs in shared for other in runs[1:])


def test_stored_results_belong_to_cells_of_a_table():
    script, files = make_reproduction(), sorted(RESULTS.glob("*.json"))
    assert files
    for file in files:
        results = script.stored_results(RESULTS, load_table(CONF, file.stem))
        assert results
        for result in results.values():
            assert result.machine["git_commit"]
            assert all(0 <= metrics["ACC"] <= 1 for metrics in result.seeds.values())
