"""`gradalign train --help`: examples, what there is to choose from, and every setting."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gradalign_cli.commands.page import Column, table_or_stacked_cells
from gradalign_cli.commands.setting_rows import SETTING_COLUMNS, setting_rows, shell_assignment
from gradalign_cli.composition.arguments import train_argument_parser
from gradalign_cli.composition.choices import (
    choices_of_group,
    setting_comments,
)
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.overrides import hydra_overrides
from gradalign_cli.composition.paths import CONF

INTRODUCTION = """gradalign train [GROUP=NAME ...] [SETTING=VALUE ...] [+experiment=NAME] [-m]

Trains a network on tasks one after another, and tests it on all of them after each. Prints the \
accuracy and the metrics (docs/metrics.md) and writes them to a folder under outputs/."""
EXAMPLES = (  # the first eight need no data but the digits that ship with gradalign
    ("train", "A-GEM on five tasks of two digits"),
    ("train method=gem buffer.capacity=20", "GEM, with 20 examples of each task in memory"),
    (
        "train 'replicas.seed=[0,1,2]' 'replicas.lr=[0.03,0.1]'",
        "six replicas in one run; intervals over the seeds of each step size",
    ),
    ("train method=gem 'replicas.margin=[0,0.5]'", "a setting of the method in two values"),
    ("train method=agem objective=der", "A-GEM's projection of the gradient of DER's loss"),
    ("train method=er benchmark.scenario=class", "class-incremental: tests do not tell the task"),
    (
        "train method=der benchmark.scenario=class stream=task_free",
        "no boundaries between tasks, and no one is told of them",
    ),
    (
        "train -m method=finetune,agem,gem buffer.capacity=20,50",
        "a sweep: six runs, a folder each",
    ),
    ("train +experiment=gem_mnist_rotations", "a paper's protocol: GEM's, on MNIST"),
    (
        "train benchmark=split_mnist method=ewc method.strength=5 passes=2",
        "another benchmark, a setting of the method, and two passes over each task",
    ),
)
HOW = (
    ("GROUP=NAME", "takes a part, GROUP.SETTING=VALUE one of its settings; both are below"),
    (
        "replicas.lr=[0.03,0.1]",
        "a list: every combination of the lists under replicas is trained, all of them together. "
        "seed, lr and the settings of the method (or objective) of type `number` may be lists",
    ),
    ("objective=NAME", "the loss of another method, for the gradient that `method` aligns"),
    (
        "-m",
        "a sweep: a run for every combination of values with commas between them, as for what "
        "changes shapes (method, model, capacity)",
    ),
    (
        "hydra/launcher=NAME",
        "where the runs of -m go: basic (one after the other), joblib, submitit_local, slurm or "
        "ray; the page Sweeps of the documentation tells what each needs",
    ),
    ("--config-dir FOLDER", "parts of your own: FOLDER/method/half.yaml is method=half"),
    (
        "plugins=[half]",
        "lets the `_target_` of such a yaml name a function of your half.py, which lies in FOLDER "
        "or here: --config-dir FOLDER 'plugins=[half]' method=half",
    ),
    (
        "metrics.*",
        "how the metrics are computed, and which tests come between the steps; ACC and the others "
        "are defined on the page Metrics of the documentation",
    ),
    (
        "alignment.*",
        "how often the cosine of the gradients on batch and memory is written to alignment.csv",
    ),
    ("hydra.run.dir=FOLDER", "the folder that the run is written to"),
    ("--cfg job", "prints the config that a run would have, and does not train"),
    (
        "'...'",
        "quotes, where the shell would read [ ] { } $ or a space itself",
    ),
    ("GROUP=NAME --help", "this page with the settings of the parts that you choose"),
    ("--hydra-help", "Hydra's own help"),
)
GROUPS = (
    "method",
    "objective",
    "buffer",
    "benchmark",
    "stream",
    "model",
    "augment",
    "optimizer",
    "schedule",
)
NO_SETTINGS = ("defaults", "paper", "hydra")  # entries of config.yaml


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether the arguments of `gradalign train` ask for its help."""
    return "--help" in arguments or "-h" in arguments


def print_help(arguments: Sequence[str], console: Console) -> None:
    """Print the help of `gradalign train`, with the values and parts that the arguments choose.

    Raises UserError where they choose what there is not.
    """
    options = train_argument_parser().parse_intermixed_args(list(arguments))
    overrides = [text for text in options.overrides if not is_sweep(text)]
    config, choice_of_group = compose_config(CONF, overrides, options.config_dir)
    console.print(Text(INTRODUCTION))
    print_heading("examples, of which the first eight need no download", console)
    for command, sentence in EXAMPLES:
        console.print(Text(f"gradalign {command}"), soft_wrap=True)  # to be copied whole
        console.print(Padding(Text(sentence), (0, 0, 0, 4)))
    print_heading("how it is typed", console)
    console.print(table_or_stacked_cells((Column(""), Column("", wraps=True)), HOW, console))
    print_heading("groups, and what is chosen; `gradalign list` says what each part is", console)
    for group in (*GROUPS, "experiment"):
        print_choices_of_group(group, choice_of_group, options.config_dir, console)
    print_heading("settings", console)
    rows = assignments_and_meanings_outside_groups(config)
    console.print(table_or_stacked_cells((SETTING_COLUMNS[0], SETTING_COLUMNS[2]), rows, console))
    for group in GROUPS:
        if group in config:
            print_part_settings(group, config[group], choice_of_group, options.config_dir, console)


def is_sweep(override: str) -> bool:
    """Whether an override lists several values with commas, for -m."""
    (parsed,) = OverridesParser.create().parse_overrides(hydra_overrides([override], [CONF]))
    return parsed.is_sweep_override()


def print_heading(text: str, console: Console) -> None:
    """Print a heading below an empty line."""
    console.print()
    console.print(Text(text, style="bold"))


def folder_of_group(group: str) -> str:
    """The folder of conf that a group's choices lie in: an objective is one of the methods."""
    return "method" if group == "objective" else group


def chosen_name(group: str, choice_of_group: dict[str, str]) -> str:
    """What is chosen of a group, "null" for nothing.

    choice_of_group: the choices of a composed config, by group as Hydra names it.
    """
    name = choice_of_group.get("method@objective" if group == "objective" else group)
    return "null" if name in (None, "None") else str(name)


def print_choices_of_group(
    group: str, choice_of_group: dict[str, str], config_dir: str | None, console: Console
) -> None:
    """Print what is chosen of a group and what there is to choose; a user's part has a star."""
    choices = choices_of_group(folder_of_group(group), config_dir)
    names = [f"{c.name}*" if c.config_dir else c.name for c in choices if not c.is_shadowed]
    text = f"{group}={chosen_name(group, choice_of_group)}"
    if group == "experiment":
        text = "+" + text.replace("=null", "=NAME")
    if group == "objective":
        names = ["any method with a loss of its own, such as der; null: the loss of `method`"]
    star = f"; * in {config_dir}" if any(each.config_dir for each in choices) else ""
    console.print(Text(text))
    console.print(Padding(Text(", ".join(names) + star), (0, 0, 0, 4)))


def assignments_and_meanings_outside_groups(config: dict[str, Any]) -> list[tuple[str, str]]:
    """`SETTING=VALUE` and the comment of each setting of config.yaml, in its order.

    config: composed.
    """
    comments = setting_comments(CONF / "config.yaml")
    rows: list[tuple[str, str]] = []
    for name, value in config.items():
        if name in (*GROUPS, *NO_SETTINGS):
            continue
        if not isinstance(value, dict):
            rows.append((shell_assignment(name, value), comments.get(name, "")))
            continue
        rows += [(f"{name}.*", comments[name])] if name in comments else []
        rows += [
            (shell_assignment(f"{name}.{key}", each), comments.get(f"{name}.{key}", ""))
            for key, each in value.items()
        ]
    return rows


def print_part_settings(
    group: str,
    part_config: dict[str, Any],
    choice_of_group: dict[str, str],
    config_dir: str | None,
    console: Console,
) -> None:
    """Print the settings of the part that is chosen of a group, where it has any."""
    name = chosen_name(group, choice_of_group)
    choices = choices_of_group(folder_of_group(group), config_dir)
    (path,) = (each.path for each in choices if each.name == name and not each.is_shadowed)
    rows = setting_rows(group, DictConfig(part_config), setting_comments(path))
    if rows:
        print_heading(f"settings of {group}={name}", console)
        console.print(table_or_stacked_cells(SETTING_COLUMNS, rows, console))
