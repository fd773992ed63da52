"""`gradalign evaluate`: test the networks of a finished run again, on its data or on others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.table import Table

from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.finished_run import read_run_config
from gradalign_cli.composition.overrides import override_key
from gradalign_cli.composition.parts import build_run
from gradalign_cli.composition.settings import choose_device
from gradalign_cli.engines.eager import eager
from gradalign_cli.errors import UserError, require
from gradalign_cli.numerics.devices import to_device
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.results.network_file import (
    NETWORK_FILE,
    BenchmarkSizes,
    TrainedNetworks,
    read_networks,
    read_sizes,
    sizes_of,
    with_trained_normalisation,
)
from gradalign_cli.results.terminal import terminal_console
from gradalign_cli.step.learner import Learner
from gradalign_cli.training.evaluation import Evaluator
from gradalign_cli.training.replica import Replica

ALLOWED = ("benchmark.dataset", "benchmark.datasets", "data_dir", "device", "threads", "plugins")


def main(arguments: list[str]) -> int:
    """Print the accuracies; returns the exit code."""
    parser = VerbParser(
        prog="gradalign evaluate",
        description="Test the networks of a finished run again: the last row of its accuracy.csv.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder of the run")
    text = f"another value of {', '.join(ALLOWED)}, as in benchmark.dataset=NAME"
    parser.add_argument("overrides", metavar="OVERRIDE", nargs="*", help=text)
    parser.add_argument("--config-dir", help="your folder of configs and plugins, as for train")
    options = parser.parse_args(arguments)
    for text in options.overrides:
        allowed = ", ".join(ALLOWED)
        require(override_key(text) in ALLOWED, "OVERRIDE", f"a value of {allowed}", text)
    config = read_run_config(options.run_dir, options.overrides, options.config_dir)
    accuracy = evaluate(options.run_dir, config)
    terminal_console().print(accuracy_table(accuracy))
    return 0


def evaluate(run_folder: Path, config: DictConfig) -> np.ndarray:
    """The accuracy [R, T] of a run's networks on the test set of each task.

    config: of the run, perhaps with another dataset. Images are standardised as in training.
    Raises UserError where the benchmark has other sizes.
    """
    device = choose_device(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    sizes = read_sizes(run_folder / NETWORK_FILE)
    parts, replicas, _ = build_run(config, device)
    benchmark_sizes = sizes_of(parts.benchmark)
    if benchmark_sizes != sizes:
        raise UserError(
            f"`benchmark` must have the sizes that the networks were trained with, "
            f"{sizes_text(sizes)}, found {sizes_text(benchmark_sizes)}"
        )
    networks = read_networks(run_folder / NETWORK_FILE, parts.model, len(replicas))
    check_class_count(run_folder / NETWORK_FILE, networks, replicas)

    def params_of_task(
        state: object, params: torch.Tensor, task: int, layers: object
    ) -> torch.Tensor:
        return params[task if len(params) > 1 else 0]

    parts = parts._replace(
        benchmark=with_trained_normalisation(parts.benchmark, networks),
        method=parts.method._replace(test_params=params_of_task),
    )
    rows = []
    for number, replica in enumerate(replicas):  # whose tasks may be of other lengths
        tensors = networks.params[number], networks.statistics[number], (), (), ()
        learners = to_device(tree_stack([Learner(*tensors)]), device)  # type: ignore[arg-type]
        views = to_device(tree_stack([replica.stream.view]), device)
        evaluator = Evaluator(parts, [replica], eager(device))
        rows.append(evaluator.accuracy(learners, views, range(sizes.tasks))[0, 0])
    return torch.stack(rows).double().numpy()


def check_class_count(
    network_path: Path, networks: TrainedNetworks, replicas: Sequence[Replica]
) -> None:
    """Raise UserError where a file has logits for fewer classes than the dataset."""
    logit_of_class = networks.task_view_tensors["logit_of_class"]
    assert isinstance(logit_of_class, torch.Tensor)
    classes, wanted = logit_of_class.shape[1], len(replicas[0].stream.view.logit_of_class)
    domain = f"a file with the {wanted} classes of the dataset in `logit_of_class`"
    require(classes >= wanted, str(network_path), domain, classes)


def sizes_text(sizes: BenchmarkSizes) -> str:
    """BenchmarkSizes in words."""
    return f"images {sizes.image_shape}, {sizes.outputs} logits and {sizes.tasks} tasks"


def accuracy_table(final_accuracy: np.ndarray) -> Table:
    """The accuracies [R, T] in percent, a row for each replica."""
    table = Table(title="accuracy on task 1, 2, ... in percent", title_justify="left")
    for column in ("replica", *map(str, range(1, final_accuracy.shape[1] + 1)), "ACC"):
        table.add_column(column, justify="right")
    for number, row in enumerate(final_accuracy):
        table.add_row(str(number), *(f"{100 * value:.2f}" for value in [*row, row.mean()]))
    return table
