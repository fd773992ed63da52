"""docs/reproduction.md, and the numbers in docs/methods.md, are what the kept results say."""

import importlib.util
from pathlib import Path

from gradalign_cli.composition.paths import CONF
from gradalign_cli.tables.table import load

ROOT = Path(__file__).resolve().parents[2]


def script():
    """scripts/make_reproduction.py as a module."""
    path = ROOT / "scripts" / "make_reproduction.py"
    found = importlib.util.module_from_spec(
        spec := importlib.util.spec_from_file_location("make_reproduction", path)
    )
    spec.loader.exec_module(found)
    return found


def test_the_page_is_the_kept_results():
    assert (ROOT / "docs" / "reproduction.md").read_text() == script().page(ROOT / "docs/results")


def test_the_numbers_of_the_methods_are_those_of_the_kept_results():
    """If not: python scripts/make_reproduction.py"""
    made, text = script(), (ROOT / "docs" / "methods.md").read_text()
    numbers = made.reproduced(ROOT / "docs" / "results")
    assert {"gpm", "agem", "gem", "der"} <= set(numbers)
    assert made.with_last_column(text, numbers) == text
    assert made.with_last_column(text, {}) != text


def test_what_is_kept_is_of_cells_that_are_there():
    made, files = script(), sorted((ROOT / "docs" / "results").glob("*.json"))
    assert files
    for file in files:
        table = load(CONF, file.stem)
        found = made.kept(file.parent, table)
        assert found
        for result in found.values():
            assert result.machine["git_commit"]
            assert all(0 <= own["ACC"] <= 1 for own in result.seeds.values())
