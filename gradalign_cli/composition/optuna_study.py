"""`hydra/sweeper=optuna`: a search whose study is in the sweep's folder, so that it can go on."""

import warnings
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gradalign_cli.errors import UserError

OPTUNA_SWEEPER = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
STUDY_FILE, STUDY_NAME = "study.db", "gradalign"
STOPPED_TRIALS = "stopped_trials"  # an entry of the study: their numbers
SMALLER_IS_BETTER = ("forgetting", "stability_gap")


def sweeper_settings_to_add(
    sweeper_config: DictConfig,
    sweep_folder: Path,
    objective_metric: str,
    typed_keys: Collection[str],
) -> dict[str, Any]:
    """The entries of `hydra.sweeper` that the user left open, by name, and the number of trials
    that are left to do.

    sweeper_config: `hydra.sweeper`;  objective_metric: what the jobs return. Trials that failed
    count as done; those that were on when the search was killed do not, and come first. The folder
    of a job is called by its values, so what it had finished is not run again.

    Raises UserError where the installed packages cannot keep a study.
    """
    direction = "minimize" if objective_metric in SMALLER_IS_BETTER else "maximize"
    settings: dict[str, Any] = {}
    if "hydra.sweeper.direction" not in typed_keys:
        settings["direction"] = direction
    if "hydra.sweeper.max_failure_rate" not in typed_keys:
        settings["max_failure_rate"] = 1.0  # the others go on
    if sweeper_config.study_name is None:
        settings["study_name"] = STUDY_NAME
    if sweeper_config.storage is None:
        check_versions()
        settings["storage"] = f"sqlite:///{sweep_folder / STUDY_FILE}"
    storage = settings.get("storage", sweeper_config.storage)
    done = trials_done_after_requeue(
        str(storage), settings.get("study_name", sweeper_config.study_name)
    )
    settings["n_trials"] = max(0, sweeper_config.n_trials - done)
    return settings


def trials_done_after_requeue(storage: str, study_name: str) -> int:
    """How many trials of a study have ended; 0 where there is no such study. Those that were on
    when the search was killed are asked for again first."""
    path = storage.removeprefix("sqlite:///")
    if path != storage and not Path(path).exists():
        return 0  # to look would make the file
    import optuna

    try:
        study = optuna.load_study(study_name=study_name, storage=storage)
    except KeyError:
        return 0
    except Exception as error:  # whatever the database says of a file that is none of its own
        text = " ".join(str(error).split())[:200]
        raise UserError(f"the study in {storage} cannot be read ({text})") from error
    stopped = list(study.user_attrs.get(STOPPED_TRIALS, []))
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.set_user_attr(STOPPED_TRIALS, stopped := [*stopped, trial.number])
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that this is experimental, in Optuna 2
                    study.enqueue_trial(trial.params)
    return sum(bool(trial.state.is_finished()) for trial in study.trials) - len(stopped)


def check_versions() -> None:
    """Raise UserError where Optuna is older than its way to write with SQLAlchemy 2."""
    try:
        optuna, sqlalchemy = version("optuna"), version("sqlalchemy")
    except PackageNotFoundError:
        return
    if int(optuna.split(".")[0]) < 3 and int(sqlalchemy.split(".")[0]) >= 2:
        raise UserError(
            f"Optuna {optuna} keeps no study with SQLAlchemy {sqlalchemy}: "
            "pip install 'gradalign[optuna]', or 'sqlalchemy<2' 'alembic<1.14'"
        )
