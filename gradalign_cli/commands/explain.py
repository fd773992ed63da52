"""`gradalign explain METHOD`: its rule, settings, and what it does to a gradient in the plane."""

import argparse
import inspect
import math
from pathlib import Path

import torch
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gradalign_cli.commands.list import first_comment, method_table
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.models.model import Layer
from gradalign_cli.results.picture import panels

ANGLES, DRAWN = range(0, 181, 15), range(0, 181, 30)


def main(arguments: list[str]) -> int:
    """Explain one method."""
    parser = argparse.ArgumentParser(
        prog="gradalign explain", description="What a method does to a gradient."
    )
    parser.add_argument("method", metavar="METHOD", help="`gradalign list methods` names them")
    parser.add_argument("--picture", metavar="FILE", help="draw it, to an .svg")
    chosen = parser.parse_args(arguments)
    show(CONF, chosen.method, chosen.picture)
    return 0


def load(conf: Path, name: str) -> tuple[DictConfig, Method]:
    """A method's settings and the method, by its name."""
    path = conf / "method" / f"{name}.yaml"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UserError(f"`METHOD` must be one of {names}, found {name!r}")
    chosen = OmegaConf.load(path)
    assert isinstance(chosen, DictConfig)
    return chosen, call_target("method", chosen)


def direction_at_angle(method: Method, degrees: float) -> Tensor:
    """The direction [2] for g = (1, 0) and a reference of length 1 at an angle, equal losses."""
    g = torch.tensor([1.0, 0.0], dtype=torch.float64)
    angle = math.radians(degrees)
    r = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    layers = (Layer(2, 0, False),)
    one = g.new_ones(())
    given = Gradients(g, r, torch.tensor([True]), one, one[None], g.new_full((4,), 0.5), layers)
    return method.align(given, method.init(MethodSetup(g, 2, 1, layers)))[0]


def draw(name: str, method: Method) -> str:
    """The SVG of what a method with references does in the plane."""
    return panels(
        name, DRAWN, torch.stack([direction_at_angle(method, degrees) for degrees in DRAWN])
    )


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
    settings = {str(k): v for k, v in chosen.items() if k not in ("name", "_target_", "defaults")}
    console.print("\nsettings: " + (", ".join(f"{k}={v}" for k, v in settings.items()) or "none"))
    for brought in chosen.get("defaults", []):
        console.print(f"buffer unless another is chosen: {', '.join(brought.values())}")
    row = method_table(conf).get(name)
    if row:  # a method of the user's own may not be in the table
        console.print(f"paper: {row['paper']}; keeps: {row['keeps']}; task ids: {row['task ids']}")
        console.print(f"backward passes beside the one on the batch: {row['passes']}")
    console.print(f"batches of memory in its loss: {method.memory_batches}")
    if picture and not picture.endswith(".svg"):
        raise UserError(f"`--picture` must end in .svg, found {picture!r}")
    if method.references == "nothing":
        if picture:
            raise UserError(f"`--picture` needs a method with references, {name} has none")
        return
    directions = torch.stack([direction_at_angle(method, degrees) for degrees in ANGLES])
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
        try:
            Path(picture).write_text(draw(name, method))
        except OSError as error:
            raise UserError(f"`--picture` cannot be written: {error}") from error
        console.print(f"drawn to {picture}")
