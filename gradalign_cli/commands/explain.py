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

from gradalign_cli.commands.list import first_comment, method_table
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, needed_task_ids
from gradalign_cli.models.model import Layer
from gradalign_cli.results.picture import direction_panels
from gradalign_cli.results.terminal import terminal_console

TABLE_ANGLES, PICTURE_ANGLES = range(0, 181, 15), range(0, 181, 30)  # degrees


def main(arguments: list[str]) -> int:
    """Explain one method; returns the exit code."""
    parser = VerbParser(prog="gradalign explain", description="What a method does to a gradient.")
    parser.add_argument("method", metavar="METHOD", help="`gradalign list methods` names them")
    parser.add_argument("--picture", metavar="FILE", help="draw it, to an .svg")
    options = parser.parse_args(arguments)
    explain(CONF, options.method, options.picture)
    return 0


def explain(conf_folder: Path, method_name: str, picture_file: str | None) -> None:
    """Print what a method is and does, and draw it where a file for the picture is named.

    Raises UserError where the method is unknown or cannot be drawn to this file.
    """
    config, method = load_method(conf_folder, method_name)
    console = terminal_console()
    print_description(conf_folder, method_name, config, method, console)
    if picture_file:
        check_picture(picture_file, method_name, method)
    if method.references == "nothing":
        return
    console.print(direction_table(method))
    if picture_file:
        try:
            Path(picture_file).write_text(method_svg(method_name, method), encoding="utf-8")
        except OSError as error:
            raise UserError(f"`--picture` cannot be written: {error}") from error
        console.print(f"drawn to {picture_file}")


def load_method(conf_folder: Path, method_name: str) -> tuple[DictConfig, Method]:
    """The config of a method and the method that it makes. Raises UserError where it is unknown."""
    path = conf_folder / "method" / f"{method_name}.yaml"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UserError(f"`METHOD` must be one of {names}, found {method_name!r}")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config, call_target("method", config)


def print_description(
    conf_folder: Path, method_name: str, config: DictConfig, method: Method, console: Console
) -> None:
    """Print a method's paper, rule, settings and costs."""
    comment = first_comment(conf_folder / "method" / f"{method_name}.yaml")
    console.print(comment, style="bold", highlight=False, soft_wrap=True)
    rule = str(inspect.getdoc(get_method(config["_target_"])))
    console.print(f"\n{rule}", highlight=False, markup=False, soft_wrap=True)
    entries = {str(entry): value for entry, value in config.items()}
    settings = entries.keys() - {"name", "_target_", "defaults"}
    texts = [f"{entry}={value}" for entry, value in entries.items() if entry in settings]
    console.print("\nsettings: " + (", ".join(texts) or "none"))
    for override in config.get("defaults", []):  # {"override /buffer@_global_.buffer": buffer}
        console.print(f"buffer unless another is chosen: {', '.join(override.values())}")
    row = method_table(conf_folder).get(method_name)
    if row:
        console.print(f"paper: {row['paper']}; keeps: {row['keeps']}; task ids: {row['task ids']}")
        console.print(f"backward passes beside the one on the batch: {row['passes']}")
    else:  # a method of the user's own
        console.print(f"task ids: {needed_task_ids(method)}; references: {method.references}")
    console.print(f"batches of memory in its loss: {method.memory_batches}")


def check_picture(picture_file: str, method_name: str, method: Method) -> None:
    """Raise UserError unless the file is an .svg and the method has references to draw."""
    if not picture_file.endswith(".svg"):
        raise UserError(f"`--picture` must end in .svg, found {picture_file!r}")
    if method.references == "nothing":
        raise UserError(f"`--picture` needs a method with references, {method_name} has none")


def direction_at_angle(method: Method, degrees: float) -> Tensor:
    """The direction [2] that a method makes of g = (1, 0) and one reference of length 1 at an angle
    to it, where both losses are 1 and its random numbers are 0.5."""
    g = torch.tensor([1.0, 0.0], dtype=torch.float64)
    angle = math.radians(degrees)
    references = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    available, layers = torch.tensor([True]), (Layer(2, 0, False),)
    loss, uniform = g.new_ones(()), g.new_full((4,), 0.5)
    gradients = Gradients(g, references, available, loss, loss[None], uniform, layers)
    return method.align(gradients, method.init(MethodSetup(g, 2, 1, layers)))[0]


def directions_at_angles(method: Method, angles: range) -> Tensor:
    """The directions [A, 2] at A angles in degrees, see `direction_at_angle`."""
    return torch.stack([direction_at_angle(method, degrees) for degrees in angles])


def method_svg(method_name: str, method: Method) -> str:
    """The SVG of what a method with references does in the plane."""
    return direction_panels(
        method_name, PICTURE_ANGLES, directions_at_angles(method, PICTURE_ANGLES)
    )


def direction_table(method: Method) -> Table:
    """For each angle between gradient and reference the direction of a method with references: by
    how much it is turned from the gradient, its length, and its dot product with the reference."""
    table = Table(title="gradient and reference of length 1, at an angle", title_justify="left")
    for column in ("angle", "turned by", "length", "product with the reference"):
        table.add_column(column, justify="right")
    directions = directions_at_angles(method, TABLE_ANGLES)
    for degrees, direction in zip(TABLE_ANGLES, directions, strict=True):
        length, angle = float(direction.norm()), math.radians(degrees)
        x, y = direction.tolist()
        turned_by = f"{math.degrees(math.atan2(y, x)):.0f}°" if length > 1e-6 else "-"
        product = round(x * math.cos(angle) + y * math.sin(angle), 2) + 0.0  # + 0.0: no "-0.00"
        table.add_row(f"{degrees}°", turned_by, f"{length:.2f}", f"{product:.2f}")
    return table
