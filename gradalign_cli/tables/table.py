"""A paper's table as data: cells with what was published, the runs they need, and a tolerance."""

from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from gradalign_cli.errors import UserError, require

STATUSES = ("VERIFIED", "VERIFIED-2ND", "MEMORY")
JUDGED = STATUSES[:2]  # a number from memory is shown and not judged
FIELDS = (
    "overrides",
    "needs",
    "published",
    "status",
    "tolerance",
    "reason",
    "minutes",
    "explained",
)


class Cell(NamedTuple):
    """overrides: of `gradalign train`, empty where `needs` says what is missing to run it;
    published: metric -> value in fractions;  tolerance: metric -> the largest difference that
    counts as reproduced, because of `reason`;  minutes: what one seed took on two CPU cores;
    explained: why ours is known to lie outside the tolerance, which changes no verdict."""

    name: str
    overrides: tuple[str, ...]
    needs: str | None
    published: dict[str, float]
    status: str
    tolerance: dict[str, float]
    reason: str
    minutes: float | None
    explained: str = ""


class Table(NamedTuple):
    """differences: what we know to be otherwise than in the paper;  ranked: whether methods are
    ranked over the settings."""

    name: str
    title: str
    source: str
    differences: tuple[str, ...]
    ranked: bool
    cells: tuple[Cell, ...]


def setting(name: str) -> tuple[str, str]:
    """The setting and the method of a cell: it is named `SETTING, METHOD`, or by its method alone
    where a table has one setting."""
    before, _, method = name.rpartition(", ")
    return before, method


def names(conf: Path) -> list[str]:
    """The tables there are."""
    return sorted(path.stem for path in (conf / "table").glob("*.yaml"))


def load(conf: Path, name: str) -> Table:
    """The table of that name; raises UserError where it is unknown or says what cannot be."""
    known = names(conf)
    require(name in known, "TABLE", f"one of {', '.join(known)}", name)
    found = OmegaConf.to_container(OmegaConf.load(conf / "table" / f"{name}.yaml"), resolve=True)
    assert isinstance(found, dict)
    return parse(name, {str(key): value for key, value in found.items()})


def parse(name: str, found: dict[str, Any]) -> Table:
    """A table from its yaml; what holds for all cells stands once, and a cell may say otherwise."""
    cells = []
    for label, own in found["cells"].items():
        field = f"{name}.cells.{label}"
        for unknown in own.keys() - set(FIELDS):
            raise UserError(f"`{field}.{unknown}` is not known; known are {', '.join(FIELDS)}")
        status = own.get("status", found["status"])
        require(status in STATUSES, f"{field}.status", f"one of {', '.join(STATUSES)}", status)
        tolerance = found.get("tolerance", {}) | own.get("tolerance", {})
        published = {metric: float(value) for metric, value in own["published"].items()}
        overrides, needs = own.get("overrides"), own.get("needs")
        if (overrides is None) == (needs is None):
            raise UserError(f"`{field}` must have either `overrides` or `needs`")
        for metric in published:
            listed = status not in JUDGED or needs is not None or metric in tolerance
            require(listed, f"{field}.tolerance.{metric}", "given", None)
        cells.append(
            Cell(
                str(label),
                () if overrides is None else (*found.get("overrides", []), *overrides),
                needs,
                published,
                status,
                tolerance,
                own.get("reason", found.get("reason", "")),
                own.get("minutes"),
                own.get("explained", ""),
            )
        )
    differences = tuple(found.get("differences", []))
    for text in differences:  # what has a colon is a mapping to yaml
        require(isinstance(text, str), f"{name}.differences", "sentences", text)
    ranked = bool(found.get("ranked", False))
    return Table(name, found["title"], found["source"], differences, ranked, tuple(cells))
