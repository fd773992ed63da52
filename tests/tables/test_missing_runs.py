"""The runs that a table lacks: started once, stopped, continued, and never trained over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import pytest
from omegaconf import OmegaConf

import gradalign_cli.tables.reproduce as reproduce_module
from gradalign_cli.cli import main
from gradalign_cli.composition.paths import CONF
from gradalign_cli.files.locking import FolderLock
from gradalign_cli.tables.missing_runs import (
    MissingRun,
    failure_message,
    reason_of_budget,
    run_environment,
    run_name,
    train_arguments,
)
from gradalign_cli.tables.table import load_table
from tests.grids import rest_is_long
from tests.processes import children, is_running, wait_for
from tests.tables.tiny_table import AGEM_ONCE, ALL_CELLS, SMALL, TABLE, csv_rows, reproduce_tiny


def when_its_turn_comes(monkeypatch, cell_name, finish):
    """Have `finish(run)` called when the turn of a cell comes, before it is looked for."""
    original = reproduce_module.train_missing_any_failed

    def train(runs, is_finished_by_another, request, console):
        def look(run):
            if run.cell.name == cell_name:
                finish(run)
            return is_finished_by_another(run)

        return original(runs, look, request, console)

    monkeypatch.setattr(reproduce_module, "train_missing_any_failed", train)


@pytest.mark.parametrize("seed_count", rest_is_long([2, 1], [2]))
def test_a_cell_that_another_command_finishes_meanwhile_is_taken(
    seed_count, conf, tmp_path, monkeypatch
):
    """Of the same seeds; of one of them alone, the run is in another folder and counts less."""
    request = ALL_CELLS._replace(cell_pattern="A-GEM", seed_count=seed_count)
    reproduce_tiny(conf, request, tmp_path / "other")
    (other,) = (tmp_path / "other/tiny/runs").iterdir()
    finished = []

    def finish(run):
        shutil.copytree(other, run.folder.with_name(other.name))
        finished.append((run.folder.with_name(other.name) / "accuracy.csv").stat())

    when_its_turn_comes(monkeypatch, "A-GEM", finish)
    out = tmp_path / "out"
    code, output = reproduce_tiny(conf, request._replace(seed_count=2), out)
    assert code == 0
    assert ("A-GEM: was finished meanwhile" in output) == (seed_count == 2)
    file_now = (out / "tiny/runs" / other.name / "accuracy.csv").stat()
    assert (file_now.st_ino, file_now.st_mtime_ns) == (finished[0].st_ino, finished[0].st_mtime_ns)
    assert csv_rows(out)[0]["n"] == "2"


def test_a_run_that_is_finished_between_the_look_and_the_start_is_not_replaced(conf, tmp_path):
    out = tmp_path / "out"
    cell = next(cell for cell in load_table(conf, "tiny").cells if cell.name == "A-GEM")
    run = MissingRun(cell, out / "run", (0,))
    arguments = train_arguments(run, AGEM_ONCE)
    assert main(["train", *arguments]) == 0
    before = (run.folder / "accuracy.csv").stat().st_mtime_ns
    with pytest.raises(SystemExit, match="2"):
        main(["train", *arguments])
    assert (run.folder / "accuracy.csv").stat().st_mtime_ns == before


def test_a_run_that_fails_as_another_command_has_finished_it_did_not_fail(
    conf, agem_runs, tmp_path
):
    """Both found it missing, and the other one locked its folder first."""
    out = tmp_path / "out"
    script = (
        f"import shutil, sys; shutil.copytree({str(agem_runs)!r}, {str(out / 'tiny/runs')!r}, "
        "dirs_exist_ok=True); sys.exit(2)"
    )
    request = AGEM_ONCE._replace(train_command=(sys.executable, "-c", script))
    code, output = reproduce_tiny(conf, request, out)
    assert (code, "A-GEM: was finished meanwhile" in output) == (0, True)
    assert csv_rows(out)[0]["n"] == "1"


def test_a_run_that_another_command_trains_is_not_started(conf, tmp_path):
    out, locks = tmp_path / "out", []

    def train_elsewhere(run):
        run.folder.mkdir()
        locks.append(FolderLock(run.folder))

    with pytest.MonkeyPatch.context() as patch:
        when_its_turn_comes(patch, "A-GEM", train_elsewhere)
        code, output = reproduce_tiny(conf, AGEM_ONCE._replace(train_command=("false",)), out)
    locks[0].release()
    assert code == 0
    assert f"A-GEM: not started, as process {os.getpid()} on" in output


def test_a_run_that_would_end_after_the_budget_is_not_started(conf, tmp_path):
    request = ALL_CELLS._replace(cell_pattern="A-GEM", budget_minutes=0.01)
    code, output = reproduce_tiny(conf, request, tmp_path / "out")
    assert code == 0
    assert "A-GEM: not started, it would end after the budget (0.0 minutes are left)" in output
    assert csv_rows(tmp_path / "out")[0]["verdict"] == "not judged: not run"


def test_within_a_budget_a_run_of_unknown_length_starts_only_if_it_is_a_quick_one(tmp_path):
    (cell,) = (c for c in load_table(CONF, "ogd-2020").cells if c.name == "OGD")
    run = MissingRun(cell._replace(minutes_per_seed=None), tmp_path / "run", (0,))
    assert reason_of_budget(run, 1e9, quick=False) == (
        "not started within a budget, as it is not known how long it takes"
    )
    assert reason_of_budget(run, 0.1, quick=True) is None
    assert "would end after" in reason_of_budget(run, -0.1, quick=True)


def damage_the_record(run):
    (run / "record.json").write_text("{")


def make_a_run_of_another_version(run):
    record = json.loads((run / "record.json").read_text()) | {"numerics": 99}
    (run / "record.json").write_text(json.dumps(record))


def make_a_folder_of_the_accuracies(run):
    (run / "accuracy.csv").unlink()
    (run / "accuracy.csv").mkdir()


@pytest.mark.parametrize(
    ("change", "kind", "suffix"),
    [
        (damage_the_record, "damaged", "damaged_1"),
        (make_a_run_of_another_version, "finished", "kept_1"),
        (make_a_folder_of_the_accuracies, "finished", "kept_1"),
    ],
)
def test_a_finished_run_that_does_not_count_is_kept(
    change, kind, suffix, conf, agem_runs, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(agem_runs, out / "tiny/runs")
    reproduce_tiny(conf, AGEM_ONCE, out)
    rows = csv_rows(out)
    (run,) = (out / "tiny/runs").iterdir()
    change(run)
    metrics = (run / "metrics.json").stat()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert reproduce_tiny(conf, AGEM_ONCE, out)[0] == 0
    aside = run.with_name(f"{run.name}_{suffix}")
    told = [str(warning.message) for warning in caught]
    assert f"{run} is trained anew; the {kind} run that was there is kept as {aside.name}" in told
    assert (aside / "metrics.json").stat() == metrics
    assert csv_rows(out) == rows


def test_the_name_of_a_folder_is_short_for_any_number_of_seeds():
    assert run_name("key", [0, 2]) == "key_seeds_0_2"
    names = {run_name("key", range(first, 1000)) for first in range(3)}
    assert len(names) == 3
    assert max(map(len, names)) < 100


def test_the_message_of_a_failure_is_gradaligns_own_line_where_there_is_one():
    stderr = "a\ngradalign: `x` must be y\nError executing job\n"
    assert failure_message(stderr) == "gradalign: `x` must be y"
    assert failure_message("Traceback\nKilled\n") == "Killed"
    assert failure_message("") == "no message"


def test_parallel_runs_share_the_cores_unless_the_environment_sets_threads(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert run_environment({"A": "b"}, 1) == {"A": "b"}
    assert run_environment({"A": "b"}, 3) == {"A": "b", "OMP_NUM_THREADS": "2"}
    assert run_environment({}, 20) == {"OMP_NUM_THREADS": "1"}
    assert run_environment({"OMP_NUM_THREADS": "5"}, 2) == {"OMP_NUM_THREADS": "5"}


def start_reproduce(conf, cell_pattern, passes, output_folder):
    """Start `gradalign reproduce` on longer cells, as a process and process group of its own."""
    longer = TABLE | {"overrides": [*SMALL, f"passes={passes}"]}
    OmegaConf.save(OmegaConf.create(longer), conf / "table" / "tiny.yaml")
    script = (
        # a shell starts what runs in its background with Ctrl-C ignored, and so the tests
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from pathlib import Path\n"
        "from gradalign_cli.commands import reproduce\n"
        "from gradalign_cli.cli import main\n"
        f"reproduce.CONF = Path({str(conf)!r})\n"
        f"options = '--cells', {cell_pattern!r}, '--seeds', '2', '--out', {str(output_folder)!r}\n"
        "sys.argv = ['gradalign', 'reproduce', 'tiny', *options]\n"
        "sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_table_repeats_the_cell_in_progress_alone_and_ends_the_same(conf, tmp_path):
    """It is killed in the second cell."""
    out, request = tmp_path / "killed", ALL_CELLS._replace(cell_pattern="[Ap]*")
    process = start_reproduce(conf, "[Ap]*", 15, out)
    wait_for(lambda: list(out.glob("tiny/runs/*/accuracy.csv")))
    wait_for(lambda: list(out.glob("tiny/runs/*/accuracy.partial.csv")))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (first_cell,) = out.glob("tiny/runs/*/accuracy.csv")
    write_time = first_cell.stat().st_mtime_ns
    _, output = reproduce_tiny(conf, request, out)
    assert "1 still to run" in output
    assert first_cell.stat().st_mtime_ns == write_time
    reproduce_tiny(conf, request, tmp_path / "uninterrupted")
    assert csv_rows(out) == csv_rows(tmp_path / "uninterrupted")


@pytest.mark.parametrize(
    "stop_signal", rest_is_long([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], [signal.SIGINT])
)
def test_no_run_outlives_its_table(stop_signal, conf, tmp_path):
    """A run that went on would write to the same folder as the run that replaces it."""
    process = start_reproduce(conf, "A-GEM", 3000, tmp_path / "killed")
    run_folders = tmp_path / "killed/tiny/runs"
    (partial_file,) = wait_for(lambda: list(run_folders.glob("*/accuracy.partial.csv")))
    (run,) = children(process.pid)
    process.send_signal(stop_signal)
    output, _ = process.communicate()
    wait_for(lambda: not is_running(run))
    assert not partial_file.with_name("accuracy.csv").exists()
    if stop_signal != signal.SIGKILL:
        code, name = {signal.SIGINT: (130, "Ctrl-C"), signal.SIGTERM: (143, "SIGTERM")}[stop_signal]
        assert process.returncode == code
        sentence = "the same command goes on with the runs that are missing"
        assert output.endswith(f"gradalign: stopped by {name}; {sentence}\n")
        assert "failed" not in output
        assert "Traceback" not in output
