"""`gradalign compare METHOD...`: train what is missing of several methods, then report on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.commands.report import show_and_write
from gradalign_cli.commands.sweep_table import is_failed
from gradalign_cli.commands.train import job
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.choices import choices_of_group
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.folder_names import job_folder_name
from gradalign_cli.composition.hydra_jobs import run_jobs
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.present_data import is_other_data
from gradalign_cli.composition.schema import ObjectiveMetric
from gradalign_cli.errors import UserError, require, require_name
from gradalign_cli.files.folder_override import folder_override
from gradalign_cli.reports.report import make_report
from gradalign_cli.results.run_files import read_json_mapping
from gradalign_cli.tables.results import (
    is_set_aside_as_damaged,
    key_and_result_or_warning,
    run_key,
)
from gradalign_cli.tables.set_aside import set_finished_run_aside

COMPARISONS = Path("outputs/compare")
OF_ALL_RUNS = get_args(ObjectiveMetric)
METRIC_NAMES = [*OF_ALL_RUNS, *(f"{name}_task" for name in OF_ALL_RUNS)]
MOST_SEEDS = 1000


class Comparison(NamedTuple):
    """Methods to be compared over so many seeds, with overrides that all of them share."""

    methods: list[str]
    overrides: list[str]
    seed_count: int
    config_dir: str | None


def main(arguments: list[str]) -> int:
    """Compare methods; returns the exit code: 1 where a run failed."""
    options = argument_parser().parse_intermixed_args(arguments)
    methods = list(dict.fromkeys(word for word in options.words if "=" not in word))
    overrides = [word for word in options.words if "=" in word]
    comparison = Comparison(methods, overrides, options.seeds, options.config_dir)
    check_comparison(comparison)
    if options.baseline is not None:
        require_name(options.baseline, methods, "--baseline", "one of the methods")
    if not options.by.startswith("LCA"):  # which is called by a number of batches
        require_name(options.by, METRIC_NAMES, "--by", "a metric of a run")
    folder = COMPARISONS / comparison_folder_name(comparison)
    configs = {method: settings_of_method(comparison, method) for method in methods}
    keys = {method: run_key(settings) for method, settings in configs.items()}
    config = OmegaConf.create(configs[methods[0]])  # the data is that of all methods
    try:
        any_failed = train_missing_any_failed(comparison, keys, config, folder)
    except KeyboardInterrupt as stop:
        stop.__notes__ = ["the same command goes on with what is missing"]  # and not the sweep's
        raise
    finished = finished_seeds_by_key_and_folder(folder, set(keys.values()), config)
    runs = [path for by_folder in finished.values() for path in by_folder]
    if not runs:
        return 1
    report = make_report(runs, options.by, options.baseline and f"method={options.baseline}")
    show_and_write(report, folder, " against ".join(methods))
    return int(any_failed)


def argument_parser() -> VerbParser:
    """The parser of the command's arguments."""
    parser = VerbParser(
        prog="gradalign compare",
        description="Train methods on the same seeds, then report on them. Finished runs stay.",
    )
    parser.add_argument(
        "words", nargs="+", metavar="METHOD OVERRIDE", help="as `agem er benchmark.scenario=class`"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="at least 0 to N - 1")
    parser.add_argument("--by", default="ACC", metavar="METRIC", help="sort and compare by it")
    parser.add_argument("--baseline", metavar="METHOD", help="compare the others with it")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with parts of yours")
    return parser


def check_comparison(comparison: Comparison) -> None:
    """Raise UserError unless all methods are there and the overrides leave methods and seeds
    alone."""
    require(len(comparison.methods) > 0, "METHOD", "given", "")
    names = [choice.name for choice in choices_of_group("method", comparison.config_dir)]
    for method in comparison.methods:
        require_name(method, names, "METHOD", "a method that `gradalign list methods` names")
    seeds = comparison.seed_count
    require(1 <= seeds <= MOST_SEEDS, "--seeds", f"at least 1 and at most {MOST_SEEDS}", seeds)
    for override in comparison.overrides:
        name = override.lstrip("+~").partition("=")[0]
        if name in ("method", "replicas.seed", "replicas") or name.startswith("hydra."):
            raise UserError(f"`{name}` is set by compare itself: METHOD and --seeds choose")
        if name.startswith("replicas.") and "," in override:
            raise UserError(f"`{name}` must have one value here, found {override!r}")


def comparison_folder_name(comparison: Comparison) -> str:
    """The name of the folder of all comparisons with the same overrides."""
    return (
        job_folder_name(",".join(sorted(comparison.overrides)))
        if comparison.overrides
        else "defaults"
    )


def settings_of_method(comparison: Comparison, method: str) -> dict[str, Any]:
    """The config of the runs of a method, but for their seeds."""
    overrides = [text for text in comparison.overrides if not text.startswith("hydra/")]
    return compose_config(CONF, [*overrides, f"method={method}"], comparison.config_dir).settings


def finished_seeds_by_key_and_folder(
    comparison_folder: Path, run_keys: set[str], config: DictConfig
) -> dict[str, dict[Path, list[int]]]:
    """For each of the keys the folders of its finished runs below a folder, and their seeds,
    without runs on other data than the config's. A damaged run is named in a warning."""
    finished: dict[str, dict[Path, list[int]]] = {}
    folders = sorted(path.parent for path in comparison_folder.glob("*/*/accuracy.csv"))
    for folder in folders:
        run = None if is_set_aside_as_damaged(folder) else key_and_result_or_warning(folder)
        if run is None or run[0] not in run_keys:
            continue
        if not is_other_data(read_json_mapping(folder / "record.json"), config):
            finished.setdefault(run[0], {})[folder] = sorted(run[1].seeds)
    return finished


def train_missing_any_failed(
    comparison: Comparison,
    key_of_method: dict[str, str],
    config: DictConfig,
    comparison_folder: Path,
) -> bool:
    """Train the methods on the seeds that no finished run of them has; methods that lack the same
    seeds are jobs of one sweep. Returns whether one failed.

    key_of_method: the key of each method's runs, see `run_key`;  config: of one of them.
    """
    keys = set(key_of_method.values())
    finished = finished_seeds_by_key_and_folder(comparison_folder, keys, config)
    sweeps: dict[tuple[int, ...], list[str]] = {}
    for method, key in key_of_method.items():
        trained_seeds = {seed for seeds in finished.get(key, {}).values() for seed in seeds}
        missing = tuple(seed for seed in range(comparison.seed_count) if seed not in trained_seeds)
        if missing:
            sweeps.setdefault(missing, []).append(method)
    any_failed = False
    for seeds, methods in sweeps.items():
        names = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}_to_{seeds[-1]}"
        sweep_folder = comparison_folder / f"seeds_{names}"
        for method in methods:
            set_finished_run_aside(sweep_folder / method)
        outcomes = run_jobs(job, sweep_arguments(comparison, methods, seeds, sweep_folder)) or []
        any_failed |= any(map(is_failed, outcomes))
    return any_failed


def sweep_arguments(
    comparison: Comparison, methods: Sequence[str], seeds: Sequence[int], sweep_folder: Path
) -> list[str]:
    """The arguments of `gradalign train` for a sweep over methods."""
    options = ["--config-dir", comparison.config_dir] if comparison.config_dir else []
    return [
        *("-m", *options, *comparison.overrides, f"method={','.join(methods)}"),
        f"replicas.seed=[{','.join(map(str, seeds))}]",
        folder_override("hydra.sweep.dir", sweep_folder),
        "hydra.sweep.subdir=${method.name}",
        "overwrite=false",
    ]
