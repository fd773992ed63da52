"""`gradalign explain METHOD`: its rule, settings, and what it does to a gradient in the plane."""

import inspect
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text
from torch import Tensor

from gradalign_cli.commands.list import method_table
from gradalign_cli.commands.page import Column, page_console, table_or_stacked_cells
from gradalign_cli.commands.setting_rows import SETTING_COLUMNS, setting_rows
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.choices import (
    Choice,
    choices_of_group,
    first_comment,
    setting_comments,
)
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.plugins import plugin_config_folders, typed_plugins
from gradalign_cli.errors import UserError, require_name
from gradalign_cli.methods.method import (
    Gradients,
    Method,
    MethodSetup,
    batch_cross_entropy,
    needed_task_ids,
)
from gradalign_cli.models.model import Layer
from gradalign_cli.results.picture import direction_panels

TABLE_ANGLES, PICTURE_ANGLES = range(0, 181, 15), range(0, 181, 30)  # degrees
FACT_COLUMNS = Column(""), Column("", wraps=True)
REFERENCES = {
    "nothing": "none: it reads no gradient on memory",
    "pooled": "one gradient, on a batch of the memory of all earlier tasks",
    "one_task": "one gradient, on the memory of an earlier task that is drawn in every step",
    "per_task": "a gradient for each earlier task, on the memory of it",
}
TASK_IDS = {
    "no": "nothing; it also runs on a stream without boundaries",
    "at ends": "where a task ends",
    "of each": "the task of each example",
}
DIRECTION_COLUMNS = tuple(map(Column, ("angle", "turned by", "length", "product")))
NO_DIRECTION, NO_PLANE = "-", "no plane"
ALMOST_OPPOSED = 179.9  # degrees
DIRECTION_CAPTION = """angle: between the gradient on the batch and the reference, the gradient on \
memory. Both have length 1, both losses are 1.
turned by: the angle between the direction that is followed and the gradient.
length: of that direction; of the gradient it is 1.
product: of the direction and the reference; below 0 a step hurts the memory."""


class Explained(NamedTuple):
    """A method to be explained: its choice among the configs, its config, and what that makes."""

    choice: Choice
    method_config: DictConfig
    method: Method


class DirectionRow(NamedTuple):
    """What a method makes of a gradient whose angle to the reference is `angle`: the angle between
    the direction and the gradient, its length, and its dot product with the reference, as texts."""

    angle: str
    turn: str
    length: str
    dot_product: str


def main(arguments: list[str]) -> int:
    """Explain one method; returns the exit code."""
    parser = VerbParser(prog="gradalign explain", description="What a method does to a gradient.")
    parser.add_argument("method", metavar="METHOD", help="`gradalign list methods` names them")
    parser.add_argument(
        "overrides", nargs="*", metavar="OVERRIDE", help="as for train, such as method.margin=0.1"
    )
    parser.add_argument("--picture", metavar="FILE", help="draw it, to an .svg")
    parser.add_argument("--config-dir", metavar="FOLDER", help="look for METHOD in it too")
    options = parser.parse_intermixed_args(arguments)
    explained = load_method(options.method, options.overrides, options.config_dir)
    explain(explained, options.picture, page_console())
    return 0


def explain(explained: Explained, picture_file: str | None, console: Console) -> None:
    """Print what a method is and does, and draw it where a file for the picture is named.

    Raises UserError where it cannot be drawn to this file.
    """
    method_name, method = explained.choice.name, explained.method
    if picture_file is not None:
        check_picture(picture_file, method_name, method)
    print_description(explained, console)
    if method.references == "nothing":
        return
    print_directions(method_name, method, console)
    if picture_file is not None:
        try:
            Path(picture_file).write_text(method_svg(method_name, method), encoding="utf-8")
        except OSError as error:
            raise UserError(f"`--picture` cannot be written: {error}") from error
        console.print(Text(f"drawn to {picture_file}"), soft_wrap=True)


def load_method(
    method_name: str, overrides: Sequence[str] = (), config_dir: str | None = None
) -> Explained:
    """The method of this name as `gradalign train` makes it with these overrides.

    config_dir: the user's folder of configs. Raises UserError where the method is unknown.
    """
    choices = choices_of_group("method", config_dir)
    for folder in plugin_config_folders(typed_plugins(overrides)):
        choices += [c for c in choices_of_group("method", str(folder)) if c.config_dir]
    names = [choice.name for choice in choices]
    domain = "a method that `gradalign list methods` names"
    require_name(method_name, names, "METHOD", domain)
    chosen = [f"method={method_name}", *overrides]
    config = DictConfig(compose_config(CONF, chosen, config_dir).settings["method"])
    return Explained(choices[names.index(method_name)], config, call_target("method", config))


def print_description(explained: Explained, console: Console) -> None:
    """Print a method's paper, rule, settings and costs."""
    choice, config, method = explained
    row = method_table(CONF).get(choice.name, {}) if not choice.config_dir else {}
    console.print(Text(first_comment(choice.path), style="bold"))
    console.print()
    console.print(Text(paragraphs(inspect.getdoc(get_method(config["_target_"])) or "")))
    console.print()
    console.print(table_or_stacked_cells(FACT_COLUMNS, method_facts(method, row), console))
    for buffer in default_buffers(choice.path):
        console.print(Text(f"buffer unless another is chosen: {buffer}"))
    rows = setting_rows("method", config, setting_comments(choice.path))
    console.print("\nsettings:" + ("" if rows else " none"))
    if rows:
        console.print(table_or_stacked_cells(SETTING_COLUMNS, rows, console))
        console.print("one is set as in")
        console.print(
            f"  gradalign train method={choice.name} {rows[0].assignment}", soft_wrap=True
        )


def default_buffers(method_yaml: Path) -> list[str]:
    """The buffer that the defaults list of a method's yaml chooses, if it does."""
    config = OmegaConf.load(method_yaml)
    assert isinstance(config, DictConfig)
    defaults = [entry for entry in config.get("defaults", []) if OmegaConf.is_dict(entry)]
    return [
        str(choice) for entry in defaults for key, choice in entry.items() if "/buffer" in str(key)
    ]


def method_facts(method: Method, documented_row: dict[str, str]) -> list[tuple[str, str]]:
    """What a method is made from, keeps and needs, a fact a line.

    documented_row: of the method in the table of docs/methods.md, empty where it is the user's.
    """
    objective = "its own, see above"
    if method.objective is batch_cross_entropy:
        objective = "mean cross-entropy of the batch"
    kept_bytes, passes = "", ""
    if documented_row:
        kept_bytes = f"{documented_row['bytes']} (MLP 784-256-256-10, 10 tasks, memory of 1000)"
        passes = f"{documented_row['passes']} in a step, beside the one on the batch"
    facts = [
        ("paper", documented_row.get("paper", "")),
        ("rule", documented_row.get("rule", "")),
        ("objective", objective),
        ("references", REFERENCES[method.references]),
        ("batches of memory in its loss", str(method.memory_batches)),
        ("must be told of tasks", TASK_IDS[needed_task_ids(method)]),
        ("keeps", documented_row.get("keeps", "")),
        ("bytes of it", kept_bytes),
        ("backward passes", passes),
    ]
    return [(f"{name}:", str(text)) for name, text in facts if text]


def paragraphs(docstring: str) -> str:
    """A docstring with every paragraph in one line, to be wrapped anew."""
    return re.sub(r"(?<!\n)\n(?!\n| |[\w, ]+: )", " ", docstring)


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


def directions_at_angles(method: Method, degrees: range) -> Tensor:
    """The directions [A, 2] at A angles in degrees, see `direction_at_angle`."""
    return torch.stack([direction_at_angle(method, angle) for angle in degrees])


def method_svg(method_name: str, method: Method) -> str:
    """The SVG of what a method with references does in the plane."""
    return direction_panels(
        method_name, PICTURE_ANGLES, directions_at_angles(method, PICTURE_ANGLES)
    )


def print_directions(method_name: str, method: Method, console: Console) -> None:
    """Print the direction of a method with references for each angle between gradient and
    reference, and what the columns mean."""
    console.print(f"\nwhat {method_name} makes of a gradient in the plane, by one reference")
    rows = direction_rows_by_angle(method)
    console.print(table_or_stacked_cells(DIRECTION_COLUMNS, rows, console))
    console.print(DIRECTION_CAPTION)
    if any(row.turn == NO_DIRECTION for row in rows):
        console.print(f"{NO_DIRECTION}: nothing is left of the gradient, the step changes nothing")
    if rows[-1].turn == NO_PLANE:
        console.print(
            f"{NO_PLANE}: at 180° gradient and reference lie on one line, and there is no side to "
            f"turn to; {method_name} follows the gradient as it is, which hurts the memory. Just "
            f"below 180° it turns by {turn_text(direction_at_angle(method, ALMOST_OPPOSED))}"
        )


def direction_rows_by_angle(method: Method) -> list[DirectionRow]:
    """For each angle in the table the direction of a method with references."""
    rows = []
    directions = directions_at_angles(method, TABLE_ANGLES)
    for degrees, direction in zip(TABLE_ANGLES, directions, strict=True):
        x, y = direction.tolist()
        angle = math.radians(degrees)
        product = round(x * math.cos(angle) + y * math.sin(angle), 2) + 0.0  # + 0.0: no "-0.00"
        turned = turn_text(direction)
        if degrees == 180 and turned == "0°":
            before = direction_at_angle(method, ALMOST_OPPOSED)
            turned = NO_PLANE if float((direction - before).norm()) > 0.1 else turned
        length = f"{float(direction.norm()):.2f}"
        rows.append(DirectionRow(f"{degrees}°", turned, length, f"{product:.2f}"))
    return rows


def turn_text(direction: Tensor) -> str:
    """The angle in degrees between a direction [2] and the gradient (1, 0)."""
    x, y = direction.tolist()
    shows_length = float(direction.norm()) >= 0.005  # in two digits
    return f"{math.degrees(math.atan2(y, x)):.0f}°" if shows_length else NO_DIRECTION
