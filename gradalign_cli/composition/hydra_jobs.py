"""Hydra's entry: the config of each job is composed and checked, and Hydra launches the job."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from gradalign_cli.composition.arguments import TrainArguments, parse_arguments
from gradalign_cli.composition.config_sources import bound_config_sources
from gradalign_cli.composition.folder_names import register_resolvers
from gradalign_cli.composition.hydra_errors import COMPOSITION_ERRORS, as_user_error
from gradalign_cli.composition.hydra_versions import VERSION_BASE, set_version_base, trusted_targets
from gradalign_cli.composition.interpolations import check_interpolations_are_safe
from gradalign_cli.composition.launchers.registry import (
    check_extras,
    register_launchers,
    replacement_launcher_target,
)
from gradalign_cli.composition.launchers.sweep_launcher import RETURNS
from gradalign_cli.composition.optuna_study import OPTUNA_SWEEPER, sweeper_settings_to_add
from gradalign_cli.composition.overrides import override_key
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.plugins import plugin_config_folders, typed_plugins
from gradalign_cli.composition.schema import check_settings, plain_values
from gradalign_cli.composition.targets import allow_plugins, require_plugins_in_overrides
from gradalign_cli.composition.trusted import check_hydra_entry
from gradalign_cli.errors import UserError, os_error_sentence, require
from gradalign_cli.files.folder_override import folder_override, quoted
from gradalign_cli.files.writing import make_folder, remove_empty_folders
from gradalign_cli.results.stop_notes import resume_note_of_sweep
from gradalign_cli.results.sweep_folder import MOST_JOBS, SWEEP_FILE, add_sweep_jobs

TaskFunction = Callable[[DictConfig], float]
# here, as a launcher's process imports this module and calls the task function alone
register_resolvers()
# a run writes its own folder, and what it says goes to the terminal
HYDRA_SETTINGS = {
    "hydra/job_logging": "stdout",
    "hydra.output_subdir": "null",
    "hydra.sweep.subdir": "'${job_folder:${hydra.job.override_dirname}}'",
}

SWEEP_JOBS = "GRADALIGN_SWEEP_JOBS"  # a variable of the environment, which launchers hand on

NO_TRIAL = "No trials are completed", "Record does not exist"  # Optuna's words where all failed


class JobOutcome(NamedTuple):
    """swept_overrides: what tells a sweep's job from the others;  folder: its folder;
    objective_value: what the job returned, NaN where it failed."""

    swept_overrides: str
    folder: Path
    objective_value: float


def run_jobs(task_function: TaskFunction, arguments: Sequence[str]) -> list[JobOutcome] | None:
    """Run `task_function` for each config that the arguments describe. Returns what the jobs of a
    sweep gave, None where there was a single one or Hydra only showed something.

    task_function: a function of a module, which a launcher can find again in another process.
    Raises UserError, before there is a folder, where the arguments or the config are at fault.
    """
    bound_config_sources()
    register_launchers()
    if "-sc" in arguments or "--shell-completion" in arguments:
        complete_for_shell(task_function, arguments)
        return None
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us instead of being printed
    parsed = parse_arguments(arguments)
    options = parsed.hydra_options
    with hydra_errors_as_sentences():
        if options.cfg or options.info or options.hydra_help or options.help:
            print_config_or_help(task_function, parsed)
            return None
        with hydra_of(parsed) as configured_hydra:
            return launch(configured_hydra, task_function, parsed)


@contextmanager
def hydra_errors_as_sentences() -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into UserErrors."""
    try:
        yield
    except COMPOSITION_ERRORS as error:
        raise as_user_error(error) from error


@contextmanager
def misread_configs_as_sentences() -> Iterator[None]:
    """Turn what Hydra raises of a config that it cannot make sense of into a UserError."""
    try:
        yield
    except COMPOSITION_ERRORS:
        raise
    except RecursionError as error:
        raise UserError(
            "the defaults lists of the configs must not lead back to each other"
        ) from error
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(
            f"the configs cannot be composed: {' '.join(str(error).split())}"
        ) from error


def print_config_or_help(task_function: TaskFunction, parsed: TrainArguments) -> None:
    """Let Hydra show a config, or information about itself."""
    options, shown = parsed.hydra_options, []
    for name in ("cfg", "info", "package", "config_name"):
        if getattr(options, name):
            shown.append(f"--{name.replace('_', '-')}={getattr(options, name)}")
    flags = ("resolve", "hydra_help", "help", "multirun")
    shown += [f"--{name.replace('_', '-')}" for name in flags if getattr(options, name)]
    if parsed.config_dir:
        shown.append(f"--config-dir={parsed.config_dir}")
    sys.argv = ["gradalign train", *shown, *parsed.hydra_overrides()]
    entry = hydra.main(
        config_path=str(parsed.primary_config_folder), config_name="config", **VERSION_BASE
    )
    with misread_configs_as_sentences():
        entry(task_function)()


def complete_for_shell(task_function: TaskFunction, arguments: Sequence[str]) -> None:
    """Let Hydra answer the shell's completion, which knows `gradalign` and not its verbs."""
    if not any(
        re.fullmatch("(install|uninstall|query)=(bash|fish|zsh)", text) for text in arguments
    ):
        raise UserError(
            "`--shell-completion` must be followed by install=SHELL, uninstall=SHELL or query=SHELL"
            "; `gradalign completion --help` shows a better one"
        )
    sys.argv = ["gradalign", *arguments]
    typed = os.environ.get("COMP_LINE") or "gradalign "
    os.environ["COMP_LINE"] = typed.replace("gradalign train", "gradalign", 1)
    hydra.main(config_path=str(CONF), config_name="config", **VERSION_BASE)(task_function)()


@contextmanager
def hydra_of(parsed: TrainArguments) -> Iterator[Hydra]:
    """Hydra with the configs that the arguments name, as `hydra.main` sets it up."""
    set_version_base()
    search_path = create_config_search_path(str(parsed.primary_config_folder))
    if parsed.config_dir:
        path, schema = f"file://{parsed.config_dir}", SearchPathQuery(provider="schema")
        search_path.prepend("command-line", path, schema)  # so our own parts come first
    for folder in plugin_config_folders(typed_plugins(parsed.overrides)):
        schema = SearchPathQuery(provider="schema")  # which Hydra wants to be last
        search_path.prepend("plugin", f"file://{folder}", schema)
    try:
        yield Hydra.create_main_hydra2("train", search_path)
    finally:
        GlobalHydra.instance().clear()


def launch(
    configured_hydra: Hydra, task_function: TaskFunction, parsed: TrainArguments
) -> list[JobOutcome] | None:
    """Check the config, then run the job or the jobs of a sweep."""
    config_name, overrides = parsed.hydra_options.config_name or "config", parsed.hydra_overrides()
    check_extras(overrides)
    keys = {override_key(text) for text in overrides}
    overrides += [f"{key}={value}" for key, value in HYDRA_SETTINGS.items() if key not in keys]
    mode = RunMode.MULTIRUN if parsed.hydra_options.multirun else RunMode.RUN

    with misread_configs_as_sentences():
        config_with_hydra = configured_hydra.compose_config(
            config_name, overrides, mode, with_log_configuration=False
        )
    mode = config_with_hydra.hydra.mode or mode
    check_config(config_with_hydra, parsed)
    if mode == RunMode.RUN:
        folder = absolute_folder(config_with_hydra.hydra.run.dir, "hydra.run.dir")
        overrides += [folder_override("hydra.run.dir", folder), "hydra.mode=RUN"]
        with new_folder_removed_if_unused(folder):
            configured_hydra.run(config_name, task_function, overrides)
        return None
    folder = absolute_folder(config_with_hydra.hydra.sweep.dir, "hydra.sweep.dir")
    fixed = [override_key(text) for text in fixed_overrides(overrides)]
    if len(fixed) == len(overrides):  # one job, which is called by all that was typed
        fixed = list(HYDRA_SETTINGS)
    exclude = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(map(quoted, fixed))}]"
    overrides += [folder_override("hydra.sweep.dir", folder), exclude, "hydra.mode=MULTIRUN"]
    if launcher := replacement_launcher_target(config_with_hydra.hydra.launcher._target_):
        overrides.append(f"hydra.launcher._target_={launcher}")
    settings = optuna_settings(config_with_hydra, folder, overrides)
    trials = settings.get("n_trials")
    for name, value in settings.items():
        text = quoted(value) if isinstance(value, str) else value
        overrides.append(f"hydra.sweeper.{name}={text}")
    export_sweep_job_count(overrides, "hydra/sweeper" in keys, trials)
    RETURNS.clear()
    try:
        with os_errors_as_sentences(folder), new_folder_removed_if_unused(folder):
            if trials is not None:
                add_sweep_jobs(folder, [], config_with_hydra.hydra.sweeper.n_trials)
            with trusted_targets():
                configured_hydra.multirun(config_name, task_function, overrides)
    except (ValueError, TypeError, OverflowError) as error:
        if trials is None:
            raise
        if not any(words in str(error) for words in NO_TRIAL):  # which the table of jobs says
            reason = " ".join(str(error).split())
            raise UserError(f"`hydra/sweeper` cannot search so: {reason}") from error
    except KeyboardInterrupt as stop:
        if not getattr(stop, "__notes__", []):  # it came between two jobs
            stop.add_note(resume_note_of_sweep(folder))
        raise
    return job_outcomes(RETURNS, set(fixed))


def optuna_settings(
    config_with_hydra: DictConfig, sweep_folder: Path, overrides: Sequence[str]
) -> dict[str, Any]:
    """The entries of `hydra.sweeper` that Optuna's sweeper needs beside the overrides, by name;
    empty where another sweeper is chosen."""
    sweeper = config_with_hydra.hydra.sweeper
    if sweeper._target_ != OPTUNA_SWEEPER:
        return {}
    keys = [override_key(text) for text in overrides]
    metric = config_with_hydra.get("objective_metric", "ACC")
    return sweeper_settings_to_add(sweeper, sweep_folder, metric, keys)


def check_config(config_with_hydra: DictConfig, parsed: TrainArguments) -> None:
    """Raise UserError where a config, composed with Hydra's entry, must not be run."""
    unresolved = OmegaConf.to_container(config_with_hydra, resolve=False)
    assert isinstance(unresolved, dict)
    entries = {str(name): entry for name, entry in unresolved.items()}
    typed_keys = [override_key(text) for text in parsed.overrides]
    check_hydra_entry(entries["hydra"], typed_keys)
    check_interpolations_are_safe(entries)
    subdir = config_with_hydra.hydra.output_subdir
    require(subdir is None, "hydra.output_subdir", "null, as a run writes `.hydra` itself", subdir)
    HydraConfig.instance().set_config(config_with_hydra)
    config = config_with_hydra.copy()
    with open_dict(config):
        del config["hydra"]
    settings = plain_values(config)
    check_settings(settings)
    plugins = settings.get("plugins", [])
    require_plugins_in_overrides(plugins, parsed.overrides)
    folders = [Path.cwd(), *([parsed.config_dir] if parsed.config_dir else [])]
    allow_plugins(plugins, folders)


def absolute_folder(path_text: Any, field: str) -> Path:
    """The absolute path of a folder that a config names."""
    if not isinstance(path_text, str) or not path_text or "\0" in path_text:
        raise UserError(f"`{field}` must be the path of a folder, found {path_text!r}")
    return Path(path_text).absolute()


def fixed_overrides(overrides: Sequence[str]) -> list[str]:
    """Those overrides that give one value.

    Raises UserError where another lists a value twice, as the two jobs would be one.
    """
    fixed, parser = [], OverridesParser.create()
    for text in overrides:
        override = parser.parse_override(text)
        if not override.is_sweep_override():
            fixed.append(text)
        elif override.is_discrete_sweep():
            values = swept_values(override)
            key = override_key(text).rpartition("@")[2]
            require(len(set(values)) == len(values), key, "swept without repetitions", values)
    return fixed


def swept_values(override: Override) -> list[str]:
    """The values of a sweep, at most one more than there may be jobs."""
    try:
        return list(islice(override.sweep_string_iterator(), MOST_JOBS + 1))
    except ValueError as error:
        raise UserError(f"`{override.key_or_group}` cannot be swept so: {error}") from error


@contextmanager
def new_folder_removed_if_unused(folder: Path) -> Iterator[None]:
    """Make a folder. At the end it is removed again, with those above it that were missing, where
    nothing came into them but empty folders of jobs and the files that a sweep begins with."""
    missing = make_folder(folder)
    try:
        yield
    finally:
        if missing:
            remove_empty_folders([path for path in folder.iterdir() if path.is_dir()])
            files = list(folder.iterdir())
            if {path.name for path in files} <= {"multirun.yaml", SWEEP_FILE}:
                for path in files:
                    path.unlink()
            remove_empty_folders(missing)


@contextmanager
def os_errors_as_sentences(sweep_folder: Path) -> Iterator[None]:
    """Turn an OSError of the block that names no file into a UserError that names the folder of the
    sweep, as where the disk is full when Hydra writes there."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:  # the first is one of Hydra's own
            raise
        sentence = f"cannot run the sweep in {os_error_sentence(error, sweep_folder)}"
        raise UserError(f"{sentence}; {resume_note_of_sweep(sweep_folder)}") from error


def job_outcomes(job_returns: Sequence[JobReturn], fixed_keys: set[str]) -> list[JobOutcome]:
    """What the jobs of a sweep gave, in order;  fixed_keys: those that all of them share."""
    return [
        JobOutcome(
            ", ".join(
                text.lstrip("+")
                for text in result.overrides or []
                if override_key(text) not in fixed_keys
            ),
            Path(result.hydra_cfg.hydra.runtime.output_dir),
            float(result.return_value),
        )
        for result in job_returns
        if result.hydra_cfg is not None
    ]


def plugin_folders() -> list[Path]:
    """Where the present job looks for plugins that are not installed: the folder the command was
    given in, and those of the user's configs. A launcher may run the job in another process."""
    runtime = HydraConfig.get().runtime
    files = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    return [Path(runtime.cwd), *(folder for folder in files if folder != CONF)]


def export_sweep_job_count(
    overrides: Sequence[str], is_search: bool, trial_count: int | None
) -> None:
    """Tell this process and those that it starts how many jobs a sweep has. Raises UserError where
    they are too many.

    is_search: whether the sweeper does not try every combination;  trial_count: how many it does
    try, None where that is not known.
    """
    parser, count = OverridesParser.create(), 1
    for override in map(parser.parse_override, overrides):
        if override.is_discrete_sweep():
            count *= len(swept_values(override))
            require(count <= MOST_JOBS, "-m", f"followed by at most {MOST_JOBS} jobs", "more")
    domain = f"at most {MOST_JOBS}"
    fits = trial_count is None or trial_count <= MOST_JOBS
    require(fits, "hydra.sweeper.n_trials", domain, trial_count)
    os.environ[SWEEP_JOBS] = str(trial_count or "") if is_search else str(count)


def sweep_job_text() -> str | None:
    """Which of how many jobs of a sweep the present one is, None where there is no sweep."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return None
    count = os.environ.get(SWEEP_JOBS)
    return f"job {int(hydra_config.job.num) + 1}" + (f" of {count}" if count else "")


def job_overrides_text() -> str:
    """What tells the present job from the others of its sweep."""
    return re.sub(r"(^|,)[+]+", r"\1", HydraConfig.get().job.override_dirname)


def job_folder() -> Path:
    """The folder that Hydra made for the present job."""
    return Path(HydraConfig.get().runtime.output_dir)


def sweep_folder() -> Path | None:
    """The folder of the sweep that the present job belongs to, None where it is a single run."""
    config = HydraConfig.get()
    return Path(config.sweep.dir) if config.mode == RunMode.MULTIRUN else None


def hydra_file_texts(job_config: DictConfig) -> dict[str, str]:
    """The texts of the files that Hydra writes of a job, by their names in the job's folder."""
    entry = HydraConfig.instance().cfg
    return {
        ".hydra/config.yaml": OmegaConf.to_yaml(job_config),
        ".hydra/hydra.yaml": OmegaConf.to_yaml(entry),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(HydraConfig.get().overrides.task),
    }
