"""Sweeps and plugins through the verb, in this process."""

import json
import logging
import os
import pickle
import re
import sys

import pytest

from gradalign_cli.commands import status
from gradalign_cli.commands.train import main, mean_metric
from gradalign_cli.composition import targets
from gradalign_cli.composition.launchers.basic import BasicLauncher
from gradalign_cli.composition.launchers.sweep_launcher import RETURNS
from gradalign_cli.composition.optuna_study import check_versions
from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import FolderLock
from tests.own_digits import write_own_digits

SMALL = ("benchmark.first_tasks=2", "benchmark.samples_per_task=5", "model.widths=[4]")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder of a test, from which no trust and no logging is left."""
    handlers, plugins = list(logging.root.handlers), list(targets.PLUGINS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")
    yield tmp_path
    logging.root.handlers[:], targets.PLUGINS[:] = handlers, plugins


def test_a_sweep_ends_with_a_row_for_each_job_and_code_1_where_one_failed(folder, capsys):
    arguments = ("-m", "batch_size=5,0", "replicas.seed=[0,1]", "hydra.sweep.dir=sweep", *SMALL)
    assert main([*arguments]) == 1
    output = capsys.readouterr()
    assert output.err == ("gradalign: `batch_size` must be a whole number of at least 1, found 0\n")
    rows = [re.split(r" *[│┃] *", line)[1:-1] for line in output.out.splitlines()]
    finished, failed = (next(row for row in rows if row[:1] == [f"batch_size={n}"]) for n in (5, 0))
    assert finished[1] == "2"
    assert all(re.fullmatch(r"-?\d+\.\d\d ± \d+\.\d\d", metric) for metric in finished[2:4])
    assert finished[4] == "batch_size=5"
    assert failed[1:] == ["", "failed", "", ""]
    assert os.listdir(folder / "sweep/batch_size=0") == ["failure.txt"]
    reason = (folder / "sweep/batch_size=0/failure.txt").read_text()
    assert reason == "`batch_size` must be a whole number of at least 1, found 0\n"
    assert (folder / "sweep/batch_size=5/.hydra/overrides.yaml").exists()
    assert not list(folder.rglob("*.log"))
    assert all(len(pickle.dumps(kept)) < 4096 for kept in RETURNS), "a job leaves its configs"


def test_a_part_of_the_user_runs_where_its_module_is_on_the_command_line(folder, capsys):
    (folder / "mine/method").mkdir(parents=True)
    (folder / "mine/method/half.yaml").write_text("name: half\n_target_: users_half.half\n")
    (folder / "mine/users_half.py").write_text(
        "from gradalign_cli.methods.method import Method\n"
        "def half() -> Method:\n"
        "    align = lambda gradients, state: (gradients.g / 2, state)\n"
        "    return Method(align, references='pooled')\n"
    )
    run = ("--config-dir", "mine", "method=half", "hydra.run.dir=run", *SMALL)
    with pytest.raises(SystemExit, match="2"):
        main([*run])
    assert "plugins=[users_half]" in capsys.readouterr().err
    assert not (folder / "run").exists()
    assert main([*run, "plugins=[users_half]"]) == 0
    again = ("--config-path", "run", "--config-name", "config", "hydra.run.dir=again")
    with pytest.raises(UserError, match="`plugins` must be given on the command line"):
        main([*again])
    assert not (folder / "again").exists()
    with pytest.raises(SystemExit, match="2"):
        main([*again, "plugins=[]"])
    assert "plugins=[users_half]" in capsys.readouterr().err
    assert main([*again, "plugins=[users_half]", "--config-dir", "mine"]) == 0
    accuracies = [(folder / name / "accuracy.csv").read_text() for name in ("run", "again")]
    assert accuracies[0] == accuracies[1]


def finished_at(sweep):
    """When each job of a sweep was finished, by its folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/accuracy.csv")}


def test_a_sweep_that_is_started_again_runs_only_what_is_not_finished(folder, capsys):
    sweep = ("-m", *SMALL, "hydra.sweep.dir=sweep")
    assert main([*sweep, "batch_size=4,5"]) == 0
    before = finished_at(folder / "sweep")
    table = capsys.readouterr().out.partition("2 jobs in")[2]
    (folder / "sweep/batch_size=4/accuracy.csv").unlink()  # as if it was killed after a task
    (folder / "sweep/batch_size=4/checkpoint.000001.safetensors").touch()
    assert main([*sweep, "batch_size=4,5"]) == 0
    after = finished_at(folder / "sweep")
    output = capsys.readouterr().out
    assert "batch_size=5: was finished before" in output
    assert output.count("begins anew, where `resume=auto` would go on") == 1
    assert after["batch_size=5"] == before["batch_size=5"]
    assert after["batch_size=4"] > before["batch_size=4"]
    assert output.partition("2 jobs in")[2] == table


def test_status_counts_a_folder_once_whoever_had_it(folder, capsys):
    sweep = ("-m", *SMALL, "batch_size=4,5", "hydra.sweep.dir=sweep")
    assert main([*sweep]) == 0
    assert main([*sweep, "passes=2"]) == 1  # refused: the folders hold other runs
    assert status.main(["sweep"]) == 0
    assert "2 done, 0 running, 0 failed, 0 left; 2 jobs" in capsys.readouterr().out
    assert main([*sweep, "passes=2", "overwrite=true"]) == 0  # these take the folders over
    assert status.main(["sweep"]) == 0
    assert "2 done, 0 running, 0 failed, 0 left; 2 jobs" in capsys.readouterr().out


def test_a_finished_job_of_other_settings_is_neither_taken_nor_replaced(folder, capsys):
    sweep = ("-m", *SMALL, "batch_size=5", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=job")
    assert main([*sweep]) == 0
    before = finished_at(folder / "sweep")
    assert main([*sweep, "passes=2"]) == 1
    assert "holds a finished run of other settings (`passes`)" in capsys.readouterr().err
    assert main([*sweep, "skip_finished=false"]) == 1
    assert "holds a finished run; `overwrite=true` replaces it" in capsys.readouterr().err
    assert finished_at(folder / "sweep") == before
    assert not (folder / "sweep/job/failure.txt").exists()
    assert main([*sweep, "threads=1", "device=cpu"]) == 0  # which are of no consequence
    assert finished_at(folder / "sweep") == before
    assert main([*sweep, "passes=2", "overwrite=true"]) == 0
    assert finished_at(folder / "sweep") != before


def test_a_finished_job_on_other_data_is_neither_taken_nor_replaced(folder, capsys):
    own_digits = write_own_digits(folder, 0)
    sweep = ("-m", *own_digits, *SMALL, "batch_size=4,5", "hydra.sweep.dir=sweep")
    assert main([*sweep]) == 0
    before = finished_at(folder / "sweep")
    write_own_digits(folder, 9)
    assert main([*sweep]) == 1
    assert "holds a finished run of other data: the examples" in capsys.readouterr().err
    assert finished_at(folder / "sweep") == before
    write_own_digits(folder, 0)  # the same bytes, written anew
    assert main([*sweep]) == 0
    (folder / "own.npz").unlink()  # which is no other data
    assert main([*sweep]) == 0
    assert capsys.readouterr().out.count("was finished before") == 4
    assert finished_at(folder / "sweep") == before


def test_a_job_that_another_process_runs_is_waited_for_and_its_results_are_taken(
    folder, capsys, monkeypatch
):
    sweep = ("-m", *SMALL, "batch_size=5", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=job")
    assert main([*sweep]) == 0
    lock = FolderLock(folder / "sweep/job")
    monkeypatch.setattr("time.sleep", lambda seconds: lock.release())
    assert main([*sweep]) == 0
    output = capsys.readouterr().out
    assert f"job: waits for process {os.getpid()} on" in output
    assert "job: was finished before" in output


def test_the_failure_of_a_job_goes_from_its_folder_when_it_runs(folder):
    sweep = ("-m", *SMALL, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=job")
    assert main([*sweep, "batch_size=0,-1"]) == 1
    assert (folder / "sweep/job/failure.txt").exists()
    assert main([*sweep, "batch_size=5"]) == 0
    assert not (folder / "sweep/job/failure.txt").exists()


@pytest.mark.filterwarnings("ignore:a worker was killed", "ignore:job 2. failed")
def test_a_job_whose_worker_is_always_killed_has_failed_and_its_folder_says_why(
    folder, capsys, monkeypatch
):
    run = BasicLauncher.run
    monkeypatch.setattr(
        BasicLauncher,
        "run",
        lambda self, jobs: run(self, jobs[:1]) if jobs[0].number == 0 else iter(()),
    )
    assert main(["-m", *SMALL, "batch_size=4,5", "hydra.sweep.dir=sweep"]) == 1
    rows = [re.split(r" *[│┃] *", line)[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert ["batch_size=5", "", "failed", "", ""] in rows
    reason = (folder / "sweep/batch_size=5/failure.txt").read_text()
    assert reason.startswith("its worker was killed 3 times")


def test_a_search_is_told_the_mean_of_the_metric_it_asks_for():
    results = {"replicas": [{"ACC": 0.5, "forgetting": 0.25}, {"ACC": 0.7, "forgetting": 0.75}]}
    assert mean_metric(results, "ACC") == pytest.approx(0.6)
    assert mean_metric(results, "forgetting") == pytest.approx(0.5)
    with pytest.raises(UserError, match="`objective_metric` must be one of ACC, forgetting"):
        mean_metric(results, "min_ACC")


@pytest.mark.filterwarnings("default")  # Optuna's own
def test_optunas_search_maximises_accuracy_and_goes_on_where_it_ended(folder, capsys):
    optuna = pytest.importorskip("optuna", reason="needs the extra `optuna`")
    try:
        check_versions()
    except UserError as error:
        pytest.skip(str(error))
    search = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=search")
    numbers = ("replicas.lr=interval(0.01,1)", "batch_size=choice(0,5)")
    for trials in (2, 3):
        main([*search, *SMALL, *numbers, f"hydra.sweeper.n_trials={trials}"])
    storage = f"sqlite:///{folder}/search/study.db"
    study = optuna.load_study(study_name="gradalign", storage=storage)
    assert len(study.trials) == 3
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    finished = [trial for trial in study.trials if trial.params["++batch_size"] == 5]
    assert {trial.state.name for trial in study.trials if trial not in finished} <= {"FAIL"}
    assert len(finished_at(folder / "search")) == len(finished)
    for trial in finished:
        path = folder / f"search/batch_size=5,replicas.lr={trial.params['++replicas.lr']}"
        results = json.loads((path / "metrics.json").read_text())
        assert trial.value == mean_metric(results, "ACC")
