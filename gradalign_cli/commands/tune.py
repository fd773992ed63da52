"""`gradalign tune`: choose a method's numbers as A-GEM does, on the first three tasks alone
(Chaudhry et al. 2019, sec. 4.1), and write them as an experiment for the others."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table as Grid

from gradalign_cli.commands.train import train
from gradalign_cli.composition.compose import composed
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.parts import datasets, with_present_datasets
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.replicas import replica_numbers
from gradalign_cli.errors import UserError, require
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.results.run_folder import write_atomically

TASKS = 3
FOLDER = Path("tuned")


def main(arguments: list[str]) -> int:
    """Tune, and write the experiment."""
    parser = argparse.ArgumentParser(
        prog="gradalign tune", description="Choose numbers on the first three tasks alone."
    )
    parser.add_argument("name", metavar="NAME", help="of the experiment file to write")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="with lists to choose of")
    chosen = parser.parse_args(arguments)
    tune(CONF, chosen.name, chosen.overrides)
    return 0


def best(
    found: list[dict[str, float]], names: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Of replicas' numbers and metrics, the numbers of these names with the highest ACC as a mean
    over seeds, and that mean for all of them by their text. The first of equals wins."""
    groups: dict[str, list[dict[str, float]]] = {}
    for own in found:
        numbers = {name: own[name] for name in names}
        groups.setdefault(str(numbers), []).append(numbers | {"ACC": own["ACC"]})
    means = {text: sum(own["ACC"] for own in group) / len(group) for text, group in groups.items()}
    winner = max(means, key=lambda text: means[text])
    chosen = {name: value for name, value in groups[winner][0].items() if name != "ACC"}
    return chosen, means


def experiment(
    overrides: list[str], config: dict[str, Any], groups: dict[str, str], chosen: dict[str, float]
) -> str:
    """An experiment file: the config that was tuned, its numbers, and the tasks not used for it."""
    defaults = [
        {f"override /{group}": name}
        for group, name in groups.items()
        if group.rpartition("@")[2] in config and not group.startswith("hydra")
    ]
    kept = {name: value for name, value in config.items() if name not in ("replicas", "data_dir")}
    kept["benchmark"] = kept["benchmark"] | {"first_tasks": None, "skip_tasks": TASKS}
    kept["replicas"] = {"seed": config["replicas"]["seed"], **chosen}
    head = (
        f"# @package _global_\n# gradalign tune {' '.join(overrides)}: on the first {TASKS} tasks."
    )
    return f"{head}\n{OmegaConf.to_yaml(OmegaConf.create({'defaults': defaults} | kept))}"


def first_tasks(config: dict[str, Any]) -> DictConfig:
    """The config on its first three tasks alone: those that the experiment leaves out, whatever
    order of classes it draws for the others."""
    few = OmegaConf.create(config)
    few.benchmark.first_tasks, few.benchmark.skip_tasks = TASKS, 0
    if "class_order" in few.benchmark:
        few.benchmark.class_order = "fixed"
    few.metrics.lca_batches = 0
    return few


def check(config: dict[str, Any]) -> None:
    """Raise UserError unless there is something to choose of, and tasks to choose it for."""

    whole = OmegaConf.create(config)
    if "first_tasks" not in whole.benchmark or "skip_tasks" not in whole.benchmark:
        raise UserError("`benchmark` must be one whose tasks can be divided (first_tasks)")
    combinations = {str(own | {"seed": 0}) for own in replica_numbers(whole)}
    if len(combinations) < 2:
        raise UserError(
            "`replicas` must list what to choose of, as in: gradalign tune mine "
            "+experiment=split_mnist 'replicas.lr=[0.03,0.1]'"
        )
    whole.benchmark.first_tasks, whole.benchmark.skip_tasks = None, 0
    whole = with_present_datasets(whole)
    tasks = call_target("benchmark", whole.benchmark, **datasets(whole)).tasks
    require(tasks > TASKS, "benchmark", f"one of more than {TASKS} tasks", tasks)


def tune(conf: Path, name: str, overrides: list[str]) -> None:
    """Train every combination of the listed `replicas` on the first tasks; keep the best.

    Writes tuned/experiment/NAME.yaml and says how to run it on the other tasks.
    """

    console = Console()
    require(name.isidentifier(), "NAME", "letters, digits and underscores", name)
    config, groups = composed(conf, overrides)
    check(config)
    keep_freed_memory()
    results = train(first_tasks(config), FOLDER / "runs" / name, console)
    chosen, means = best(results["replicas"], [n for n in config["replicas"] if n != "seed"])
    table = Grid(title=f"ACC over the first {TASKS} tasks, in percent", title_justify="left")
    table.add_column("numbers")
    table.add_column("ACC")
    for text, mean in means.items():
        table.add_row(text.strip("{}"), f"{100 * mean:.2f}")
    console.print(table)
    file = FOLDER / "experiment" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, experiment(overrides, config, groups, chosen))
    searched = f"'hydra.searchpath=[file://{FOLDER.resolve()}]'"
    console.print(f"chosen: {chosen}; written to {file}. On the other tasks:", soft_wrap=True)
    console.print(f"gradalign train +experiment={name} {searched}", soft_wrap=True, markup=False)
