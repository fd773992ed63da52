"""`gradalign tune`: choose a method's hyper-parameters on the first three tasks alone.

As in A-GEM (Chaudhry et al. 2019, sec. 4.1), the chosen values are then used on the remaining
tasks; they are written as an experiment for these.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from gradalign_cli.commands.training_run import train
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.datasets import (
    config_without_missing_datasets,
    load_datasets_as_arguments,
)
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.replicas import read_replica_settings
from gradalign_cli.errors import UserError, require
from gradalign_cli.files.writing import make_folder, write_atomically
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.results.terminal import terminal_console

TUNING_TASKS = 3
TUNED_FOLDER = Path("outputs/tuned")


def main(arguments: list[str]) -> int:
    """Tune, and write the experiment; returns the exit code."""
    parser = VerbParser(
        prog="gradalign tune", description="Choose numbers on the first three tasks alone."
    )
    parser.add_argument("name", metavar="NAME", help="of the experiment file to write")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="with lists to choose of")
    options = parser.parse_args(arguments)
    tune(CONF, options.name, options.overrides)
    return 0


def tune(shipped_conf_folder: Path, new_experiment_name: str, overrides: list[str]) -> None:
    """Train every combination of the values listed under `replicas` on the first tasks, write the
    best one to outputs/tuned/experiment/NAME.yaml, and print how to run it on the other tasks.

    Raises UserError where the name cannot be that of an experiment of the user's or the overrides
    leave nothing to choose.
    """
    console = terminal_console()
    check_name_and_overrides(shipped_conf_folder, new_experiment_name, overrides)
    config, choice_of_group = compose_config(shipped_conf_folder, overrides)
    check_listed_values_and_task_count(config)
    keep_freed_memory()
    try:
        run_folder = TUNED_FOLDER / "runs" / new_experiment_name
        results = train(first_tasks_config(config), run_folder, console, replaces_unfinished=True)
    except KeyboardInterrupt as stop:
        stop.add_note("nothing is chosen; the same command starts again")
        raise
    tuned_names = [number for number in config["replicas"] if number != "seed"]
    best, mean_accuracy = tuning_result(results["replicas"], tuned_names)
    console.print(tuning_table(mean_accuracy))
    file = TUNED_FOLDER / "experiment" / f"{new_experiment_name}.yaml"
    make_folder(file.parent)
    write_atomically(file, experiment_yaml(overrides, config, choice_of_group, best))
    search_path = f"'hydra.searchpath=[file://{TUNED_FOLDER.resolve()}]'"
    console.print(f"chosen: {best}; written to {file}. On the other tasks:", soft_wrap=True)
    console.print(
        f"gradalign train +experiment={new_experiment_name} {search_path}",
        soft_wrap=True,
        markup=False,
    )


def check_name_and_overrides(
    shipped_conf_folder: Path, new_experiment_name: str, overrides: list[str]
) -> None:
    """Raise UserError unless the name is an identifier that no shipped experiment has, and the
    choice of the tasks is left to tuning."""
    require(
        new_experiment_name.isidentifier(),
        "NAME",
        "letters, digits and underscores",
        new_experiment_name,
    )
    if (shipped_conf_folder / "experiment" / f"{new_experiment_name}.yaml").exists():
        raise UserError(
            f"`NAME` must be new, {new_experiment_name!r} is an experiment that gradalign ships"
        )
    for field in ("benchmark.first_tasks", "benchmark.skip_tasks"):
        if any(override.lstrip("+").startswith(f"{field}=") for override in overrides):
            raise UserError(
                f"`{field}` cannot be given: the first {TUNING_TASKS} tasks are tuned on"
            )


def check_listed_values_and_task_count(config: dict[str, Any]) -> None:
    """Raise UserError unless `replicas` lists values to choose from and the benchmark has more than
    three tasks."""
    full_config = OmegaConf.create(config)
    if "first_tasks" not in full_config.benchmark or "skip_tasks" not in full_config.benchmark:
        raise UserError("`benchmark` must be one whose tasks can be divided (first_tasks)")
    combinations = {str(numbers | {"seed": 0}) for numbers in read_replica_settings(full_config)}
    if len(combinations) < 2:
        raise UserError(
            "`replicas` must list what to choose of, as in: gradalign tune mine "
            "+experiment=split_mnist 'replicas.lr=[0.03,0.1]'"
        )
    full_config.benchmark.first_tasks, full_config.benchmark.skip_tasks = None, 0
    full_config = config_without_missing_datasets(full_config)
    datasets = load_datasets_as_arguments(full_config)
    tasks = call_target("benchmark", full_config.benchmark, **datasets).tasks
    require(tasks > TUNING_TASKS, "benchmark", f"one of more than {TUNING_TASKS} tasks", tasks)


def first_tasks_config(config: dict[str, Any]) -> DictConfig:
    """The config on the first three tasks alone.

    Their classes are in fixed order, so that for every seed they are the tasks that the experiment
    leaves out, even if the experiment draws the order of the other classes.
    """
    tuning_config = OmegaConf.create(config)
    tuning_config.benchmark.first_tasks, tuning_config.benchmark.skip_tasks = TUNING_TASKS, 0
    if "class_order" in tuning_config.benchmark:
        tuning_config.benchmark.class_order = "fixed"
    tuning_config.metrics.lca_batches = 0
    return tuning_config


class TuningResult(NamedTuple):
    """best_combination: of numbers, that with the highest ACC as a mean over seeds, the first of
    equals;  mean_accuracy_of_combination: that mean of every combination, by it as text."""

    best_combination: dict[str, float]
    mean_accuracy_of_combination: dict[str, float]


def tuning_result(
    replica_settings_and_metrics: list[dict[str, float]], tuned_names: Sequence[str]
) -> TuningResult:
    """The best numbers, and the mean accuracy of all that were tried;  tuned_names: the names of
    the numbers to choose."""
    combinations: dict[str, dict[str, float]] = {}
    accuracies: dict[str, list[float]] = {}
    for replica in replica_settings_and_metrics:
        numbers = {name: replica[name] for name in tuned_names}
        combinations.setdefault(str(numbers), numbers)
        accuracies.setdefault(str(numbers), []).append(replica["ACC"])
    mean_accuracy = {text: sum(values) / len(values) for text, values in accuracies.items()}
    best = max(mean_accuracy, key=lambda text: mean_accuracy[text])
    return TuningResult(combinations[best], mean_accuracy)


def tuning_table(mean_accuracy_of_combination: dict[str, float]) -> Table:
    """The mean accuracy of each combination of numbers, in percent."""
    title = f"ACC over the first {TUNING_TASKS} tasks, in percent"
    table = Table(title=title, title_justify="left")
    table.add_column("numbers")
    table.add_column("ACC")
    for numbers, accuracy in mean_accuracy_of_combination.items():
        table.add_row(numbers.strip("{}"), f"{100 * accuracy:.2f}")
    return table


def experiment_yaml(
    overrides: list[str],
    config: dict[str, Any],
    choice_of_group: dict[str, str],
    best_combination: dict[str, float],
) -> str:
    """The text of an experiment file: the tuned config with the chosen numbers, on the tasks that
    were not used for the choice.

    overrides: those of `gradalign tune`, for the comment;  choice_of_group: of each
    config group.
    """
    defaults = [
        {f"override /{group}": choice}
        for group, choice in choice_of_group.items()
        if group.rpartition("@")[2] in config and not group.startswith("hydra")
    ]
    entries = {
        name: value
        for name, value in config.items()
        if name not in ("replicas", "data_dir", "overwrite", "resume")
    }
    entries["benchmark"] = entries["benchmark"] | {"first_tasks": None, "skip_tasks": TUNING_TASKS}
    entries["replicas"] = {"seed": config["replicas"]["seed"], **best_combination}
    comment = f"# gradalign tune {' '.join(overrides)}: on the first {TUNING_TASKS} tasks."
    text = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults} | entries))
    return f"# @package _global_\n{comment}\n{text}"
