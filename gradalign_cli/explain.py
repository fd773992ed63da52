"""`gradalign explain METHOD`: its rule, settings, and what it does to a gradient in the plane."""

import inspect
import math
from pathlib import Path

import torch
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gradalign_cli.config import build
from gradalign_cli.errors import UserError
from gradalign_cli.listing import facts, first_comment
from gradalign_cli.methods.method import Gradients, Method, Setting
from gradalign_cli.models.model import Layer

ANGLES = range(0, 181, 15)
COST = {
    "nothing": "none on memory",
    "pooled": "one on memory",
    "one_task": "one on memory",
    "per_task": "one for each earlier task",
}


def load(conf: Path, name: str) -> tuple[DictConfig, Method]:
    """A method's settings and the method, by its name."""
    path = conf / "method" / f"{name}.yaml"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UserError(f"`METHOD` must be one of {names}, found {name!r}")
    chosen = OmegaConf.load(path)
    assert isinstance(chosen, DictConfig)
    return chosen, build("method", chosen)


def turned(method: Method, degrees: float) -> Tensor:
    """The direction [2] for g = (1, 0) and a reference of length 1 at an angle, equal losses."""
    g = torch.tensor([1.0, 0.0], dtype=torch.float64)
    angle = math.radians(degrees)
    r = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    layers = (Layer(2, 0, False),)
    one = g.new_ones(())
    given = Gradients(g, r, torch.tensor([True]), one, one[None], g.new_full((4,), 0.5), layers)
    return method.align(given, method.init(Setting(g, 2, 1, layers)))[0]


def show(conf: Path, name: str, picture: str | None) -> None:
    """Print the explanation; raise UserError for an unknown method."""
    chosen, method = load(conf, name)
    console = Console()
    function = get_method(chosen["_target_"])
    console.print(
        first_comment(conf / "method" / f"{name}.yaml"),
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    rule = str(inspect.getdoc(function))
    console.print(f"\n{rule}", highlight=False, markup=False, soft_wrap=True)
    settings = {str(k): v for k, v in chosen.items() if k not in ("name", "_target_")}
    console.print("\nsettings: " + (", ".join(f"{k}={v}" for k, v in settings.items()) or "none"))
    row = facts(conf).get(name)
    if row:  # a method of the user's own may not be in the table
        console.print(f"paper: {row['paper']}; keeps: {row['keeps']}; task ids: {row['task ids']}")
    console.print(f"backward passes beside the one on the batch: {COST[method.references]}")
    console.print(f"batches of memory in its loss: {method.replays}")
    if method.references == "nothing":
        if picture:
            raise UserError(f"`--picture` needs a method with references, {name} has none")
        return
    directions = torch.stack([turned(method, degrees) for degrees in ANGLES])
    table = Table(title="gradient and reference of length 1, at an angle", title_justify="left")
    for column in ("angle", "turned by", "length", "product with the reference"):
        table.add_column(column, justify="right")
    for degrees, direction in zip(ANGLES, directions, strict=True):
        length, angle = float(direction.norm()), math.radians(degrees)
        way = math.degrees(math.atan2(float(direction[1]), float(direction[0])))
        product = float(direction[0]) * math.cos(angle) + float(direction[1]) * math.sin(angle)
        shown = f"{way:.0f}°" if length > 1e-6 else "-"
        table.add_row(f"{degrees}°", shown, f"{length:.2f}", f"{round(product, 2) + 0.0:.2f}")
    console.print(table)
    if picture:
        draw(name, directions, picture)
        console.print(f"drawn to {picture}")


def draw(name: str, directions: Tensor, picture: str) -> None:
    """Draw the directions as arrows, coloured by the angle of the reference."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("`--picture` needs matplotlib: pip install 'gradalign[plots]'") from error
    figure = Figure(figsize=(5, 4))
    axes = figure.add_subplot()
    for degrees, (x, y) in zip(ANGLES, directions.tolist(), strict=True):
        colour = colormaps["viridis"](degrees / 180)
        axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": colour})
        axes.plot([x], [y], "o", markersize=3, color=colour)
    axes.plot([0, 1], [0, 0], color="black", linewidth=0.5, linestyle=":")
    points = axes.scatter([], [], c=[], cmap="viridis", vmin=0, vmax=180)
    figure.colorbar(points, ax=axes, label="angle of the reference to the gradient, degrees")
    axes.set_aspect("equal")
    axes.set_title(f"{name}: what becomes of the gradient (1, 0)")
    try:
        figure.savefig(picture, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise UserError(f"`--picture` cannot be written: {error}") from error
