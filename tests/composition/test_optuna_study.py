"""A search that goes on: which trials are left, and which come again."""

from types import SimpleNamespace

import pytest

from gradalign_cli.composition import optuna_study
from gradalign_cli.composition.optuna_study import (
    check_versions,
    sweeper_settings_to_add,
    trials_done_after_requeue,
)
from gradalign_cli.errors import UserError


def keeps_studies():
    """Whether the installed packages can."""
    try:
        check_versions()
    except UserError:
        return False
    return True


@pytest.fixture
def optuna():
    """Optuna, where the installed one can keep a study."""
    module = pytest.importorskip("optuna", reason="needs the extra `optuna`")
    if not keeps_studies():
        pytest.skip(
            "needs the versions of the extra `optuna`: Optuna 2 and SQLAlchemy 2 do not fit"
        )
    return module


def sweeper(**entries):
    """An entry of Hydra's for Optuna's sweeper."""
    return SimpleNamespace(**{"storage": None, "study_name": None, "n_trials": 20} | entries)


@pytest.mark.filterwarnings("default")  # Optuna's own, of SQLAlchemy
def test_a_killed_search_goes_on_with_the_trial_that_was_on(tmp_path, optuna):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="gradalign", direction="maximize")
    lr = optuna.distributions.UniformDistribution(0.0, 1.0)
    killed = None
    for state in ("COMPLETE", "FAIL", "RUNNING"):
        trial = study.ask()
        killed = trial._suggest("lr", lr)
        if state != "RUNNING":
            value = 0.5 if state == "COMPLETE" else None
            study.tell(trial, value, state=getattr(optuna.trial.TrialState, state))
    settings = sweeper_settings_to_add(sweeper(), tmp_path, "ACC", [])
    assert settings["n_trials"] == 18
    assert trials_done_after_requeue(storage, "gradalign") == 2
    again = optuna.load_study(study_name="gradalign", storage=storage).ask()
    assert again._suggest("lr", lr) == killed


def test_a_new_search_has_all_trials_left_and_makes_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_study, "check_versions", lambda: None)
    settings = sweeper_settings_to_add(sweeper(), tmp_path, "ACC", [])
    assert (settings["n_trials"], settings["direction"]) == (20, "maximize")
    assert settings["storage"] == f"sqlite:///{tmp_path}/study.db"
    assert not list(tmp_path.iterdir())
    assert sweeper_settings_to_add(sweeper(), tmp_path, "forgetting", [])["direction"] == "minimize"
    assert "direction" not in sweeper_settings_to_add(
        sweeper(), tmp_path, "ACC", ["hydra.sweeper.direction"]
    )


def test_versions_that_cannot_keep_a_study_are_refused_with_those_that_can(monkeypatch):
    installed = {"optuna": "2.10.1", "sqlalchemy": "2.1.9"}
    monkeypatch.setattr(optuna_study, "version", installed.get)
    with pytest.raises(UserError, match=r"pip install 'gradalign\[optuna\]'"):
        check_versions()
    installed["optuna"] = "5.0.0"
    check_versions()
