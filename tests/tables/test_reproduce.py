"""A table on the embedded digits: run, stopped, continued, and written in every form."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

import gradalign_cli.tables.reproduce as reproduce_module
from gradalign_cli.cli import main
from gradalign_cli.commands.reproduce import TRAIN_COMMAND
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import FolderLock
from gradalign_cli.results.metrics import metrics
from gradalign_cli.tables.missing_runs import (
    MissingRun,
    failure_message,
    run_environment,
    run_name,
    train_arguments,
)
from gradalign_cli.tables.reproduce import reproduce
from gradalign_cli.tables.request import Request, checked_overrides
from gradalign_cli.tables.results import compose_cell, run_key
from gradalign_cli.tables.table import load_table, table_names

SMALL = [
    "benchmark.samples_per_task=60",
    "model.widths=[8]",
    "metrics.lca_batches=0",
    "report=false",
]
TABLE = {
    "title": "Digits",
    "source": "nobody",
    "status": "VERIFIED",
    "tolerance": {"ACC": 0.5},
    "overrides": SMALL,
    "cells": {
        "A-GEM": {"overrides": ["method=agem"], "published": {"ACC": 0.9}, "minutes": 0.1},
        "plain": {"overrides": ["method=finetune"], "published": {"ACC": 0.9, "BWT": -0.1},
                  "status": "MEMORY"},
        "wrong": {"overrides": ["method=gem", "method.margin=-1"], "published": {"ACC": 0.1}},
        "birds": {"needs": "CUB-200", "published": {"ACC": 0.6}},
    },
}  # fmt: skip
ALL_CELLS = Request("*", 2, None, False, 1, (), (), TRAIN_COMMAND)
AGEM_ONCE = ALL_CELLS._replace(cell_pattern="A-GEM", seed_count=1)


@pytest.fixture
def conf(tmp_path):
    """A copy of the shipped configs, with TABLE as one table more."""
    shutil.copytree(CONF, tmp_path / "conf")
    OmegaConf.save(OmegaConf.create(TABLE), tmp_path / "conf" / "table" / "tiny.yaml")
    return tmp_path / "conf"


@pytest.fixture(scope="module")
def agem_runs(tmp_path_factory):
    """The folder of the runs of TABLE with one run, of the first seed of A-GEM."""
    folder = tmp_path_factory.mktemp("agem")
    shutil.copytree(CONF, folder / "conf")
    OmegaConf.save(OmegaConf.create(TABLE), folder / "conf" / "table" / "tiny.yaml")
    assert reproduce_tiny(folder / "conf", AGEM_ONCE, folder)[0] == 0
    return folder / "tiny/runs"


def reproduce_tiny(conf, request, output_folder):
    """Reproduce TABLE; the exit code and the printed text."""
    console = Console(record=True, width=200)
    code = reproduce(conf, "tiny", request, output_folder, console)
    return code, console.export_text()


def csv_rows(output_folder):
    """The rows of table.csv, without the seconds."""
    with (output_folder / "tiny" / "table.csv").open() as file:
        return [
            {column: value for column, value in row.items() if column != "seconds"}
            for row in csv.DictReader(file)
        ]


def test_a_table_goes_on_past_a_failing_cell_and_runs_nothing_twice(conf, tmp_path):
    out = tmp_path / "out"
    code, output = reproduce_tiny(conf, ALL_CELLS, out)
    assert code == 1  # a cell failed
    assert "4 cells, 3 can be run, 3 still to run (about 1 minute on" in output
    assert "wrong: failed: gradalign: `method.margin` must be non-negative" in output
    verdicts = {(row["cell"], row["metric"]): row["verdict"] for row in csv_rows(out)}
    assert verdicts == {
        ("A-GEM", "ACC"): "within",
        ("plain", "ACC"): "not judged: published number from memory",
        ("plain", "BWT"): "not judged: published number from memory",
        ("wrong", "ACC"): "not judged: not run",
        ("birds", "ACC"): "not judged: needs CUB-200",
    }
    content = json.loads((out / "tiny" / "table.json").read_text())
    assert list(content["results"]["A-GEM"]["seeds"]) == ["0", "1"]
    assert (
        "1 of 1 judged numbers within tolerance, 5 published"
        in (out / "tiny" / "table.md").read_text()
    )
    assert r"\toprule" in (out / "tiny" / "table.tex").read_text()

    run_folders = sorted((out / "tiny" / "runs").iterdir())
    first_rows = csv_rows(out)
    code, output = reproduce_tiny(conf, ALL_CELLS._replace(cell_pattern="[Ap]*"), out)
    assert (code, "0 still to run" in output) == (0, True)
    assert sorted((out / "tiny" / "runs").iterdir()) == run_folders
    request = ALL_CELLS._replace(cell_pattern="A-GEM", seed_count=3)
    code, output = reproduce_tiny(conf, request, out)
    assert "A-GEM: running" in output  # for the third seed alone
    rows = csv_rows(out)  # those of cells that were not asked for stay
    assert [row["n"] for row in rows if row["cell"] == "A-GEM"] == ["3"]
    assert [row for row in rows if row["cell"] != "A-GEM"] == first_rows[1:]
    second_out = tmp_path / "second"
    request = ALL_CELLS._replace(
        cell_pattern="[Ap]*", finished_run_folders=(out / "tiny" / "runs",)
    )
    assert "0 still to run" in reproduce_tiny(conf, request, second_out)[1]
    assert csv_rows(second_out)[1]["mean"] == first_rows[1]["mean"]


def test_a_run_that_lacks_a_published_metric_is_repeated(conf, tmp_path):
    """Runs of an earlier version may lack some, such as the accuracy with own logits."""
    request, out = ALL_CELLS._replace(cell_pattern="plain", seed_count=1), tmp_path / "out"
    reproduce_tiny(conf, request, out)
    rows = csv_rows(out)
    (file,) = (out / "tiny" / "runs").glob("*/metrics.json")
    results = json.loads(file.read_text())
    del results["replicas"][0]["BWT"]
    file.write_text(json.dumps(results))
    _, output = reproduce_tiny(conf, request._replace(budget_minutes=0), out)
    assert "1 still to run" in output
    assert "nothing is started, as --budget is 0" in output
    means = [row["mean"] for row in csv_rows(out) if row["cell"] == "plain"]
    assert means == [rows[1]["mean"], ""]
    reproduce_tiny(conf, request, out)
    assert csv_rows(out) == rows


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


@pytest.mark.parametrize("seed_count", [2, 1])
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
    assert "overwrite=true" in train_arguments(run, AGEM_ONCE)  # planned now, it is a run of no use


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


def test_the_name_of_a_folder_is_short_for_any_number_of_seeds():
    assert run_name("key", [0, 2]) == "key_seeds_0_2"
    names = {run_name("key", range(first, 1000)) for first in range(3)}
    assert len(names) == 3
    assert max(map(len, names)) < 100


def test_numbers_that_leave_a_table_are_told(conf, agem_runs, tmp_path):
    out = tmp_path / "out"
    reproduce_tiny(conf, AGEM_ONCE._replace(finished_run_folders=(agem_runs,)), out)
    with pytest.warns(UserWarning, match="numbers of 1 cell leave the table, 'A-GEM' first"):
        reproduce_tiny(conf, AGEM_ONCE._replace(cell_pattern="birds"), out)


@pytest.mark.parametrize(
    "override",
    ["device=gpu9", "engine=foo", "memory_budget=-5", "hydra/launcher=foo", "threads=0"],
)
def test_an_override_that_is_not_valid_is_told_before_anything_is_written(override, conf, tmp_path):
    request = ALL_CELLS._replace(overrides=(override,))
    with pytest.raises(UserError, match=override.partition("=")[0]):
        reproduce_tiny(conf, request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


MNIST_CELL = {"overrides": ["benchmark=permuted_mnist"], "published": {"ACC": 0.9}}
LCA_CELL = {"overrides": SMALL, "published": {"LCA10": 0.5}, "tolerance": {"LCA10": 0.1}}
GRID_CELL = {"overrides": ["replicas.lr=[0.1,0.2]"], "published": {"ACC": 0.9}}


@pytest.mark.parametrize(
    ("cell", "launcher", "sentence"),
    [
        (MNIST_CELL, (), "mnist was not found in .*nowhere"),
        (GRID_CELL, (), "`cell: replicas.lr` must be one number in a table, found"),
        (LCA_CELL, (), "`cell` has LCA10 published, which its runs do not have"),
        (GRID_CELL, ("hydra/launcher=basic",), "`cell: replicas.lr` must be one number"),
    ],
)
def test_a_cell_that_cannot_be_run_here_is_told_before_anything_is_written(
    cell, launcher, sentence, conf, tmp_path, monkeypatch
):
    monkeypatch.setattr("torchvision.datasets.MNIST", no_connection)
    OmegaConf.save(TABLE | {"overrides": [], "cells": {"cell": cell}}, conf / "table/tiny.yaml")
    overrides = (f"data_dir={tmp_path / 'nowhere'}", *launcher)
    with pytest.raises(UserError, match=sentence):
        reproduce_tiny(conf, ALL_CELLS._replace(overrides=overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_left_of_a_damaged_run_is_kept(conf, agem_runs, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(agem_runs, out / "tiny/runs")
    (run,) = (out / "tiny/runs").iterdir()
    reproduce_tiny(conf, AGEM_ONCE, out)
    rows, accuracies = csv_rows(out), (run / "accuracy.csv").read_text()
    for number, file in enumerate(("record.json", "metrics.json"), 1):
        (run / file).write_text("{")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert reproduce_tiny(conf, AGEM_ONCE, out)[0] == 0
        sentence = f"{run} is damaged and kept as {run.name}_damaged_{number}"
        assert sentence in [str(warning.message) for warning in caught]
        kept = run.with_name(f"{run.name}_damaged_{number}")
        assert ((kept / file).read_text(), (kept / "accuracy.csv").read_text()) == ("{", accuracies)
        assert csv_rows(out) == rows


def test_a_misspelt_cell_that_was_not_requested_costs_no_table(conf, agem_runs, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(agem_runs, out / "tiny/runs")
    cells = TABLE["cells"] | {
        "typo": {"overrides": ["method=agemm"], "published": {"ACC": 0.9}, "status": "MEMORY"}
    }
    OmegaConf.save(TABLE | {"cells": cells}, conf / "table/tiny.yaml")
    request = AGEM_ONCE._replace(cell_pattern="plain")
    assert reproduce_tiny(conf, request, out)[0] == 0
    assert [row["n"] for row in csv_rows(out)] == ["1", "1", "1", "0", "0", "0"]
    with pytest.raises(UserError, match="agemm"):
        reproduce_tiny(conf, request._replace(cell_pattern="typo"), out)


def test_an_output_folder_may_have_any_name(conf, tmp_path):
    out = tmp_path / "ünï (1), {a=b} 'c\\' $d [e]"
    assert reproduce_tiny(conf, AGEM_ONCE, out)[0] == 0
    assert csv_rows(out)[0]["n"] == "1"
    assert "0 still to run" in reproduce_tiny(conf, AGEM_ONCE, out)[1]


def test_a_folder_in_the_place_of_a_table_is_told_before_anything_runs(conf, tmp_path):
    (tmp_path / "out/tiny/table.md").mkdir(parents=True)
    with pytest.raises(UserError, match=r"table\.md must be a file, found a folder"):
        reproduce_tiny(conf, ALL_CELLS._replace(train_command=("false",)), tmp_path / "out")


def no_connection(*_, **__):
    raise OSError("no connection")


def test_what_a_launcher_trains_elsewhere_is_not_looked_for_here(conf, tmp_path, monkeypatch):
    """The first machine may have neither the GPU nor the data of those that train."""
    OmegaConf.save(
        TABLE | {"overrides": [], "cells": {"cell": MNIST_CELL}}, conf / "table/tiny.yaml"
    )
    started = []
    monkeypatch.setattr(
        reproduce_module, "train_missing_any_failed", lambda runs, *_: started.append(len(runs))
    )
    launcher = ("hydra/launcher=basic", f"data_dir={tmp_path / 'nowhere'}", "device=cuda")
    assert reproduce_tiny(conf, ALL_CELLS._replace(overrides=launcher), tmp_path / "out")[0] == 0
    assert started == [1]


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_runs(conf, tmp_path):
    (tmp_path / "file").write_text("")
    command = ("false",)  # which would fail, and so be told as a failed cell
    with pytest.raises(UserError, match="file"):
        reproduce_tiny(conf, ALL_CELLS._replace(train_command=command), tmp_path / "file")


@pytest.mark.parametrize("option", ["--from", "--out"])
def test_an_empty_folder_name_is_refused(option, capsys):
    assert main(["reproduce", "ogd-2020", option, ""]) == 2
    assert f"`{option}` must be the name of a folder" in capsys.readouterr().err


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


def wait_for(condition):
    """Call the condition until its value is true, and return the value."""
    deadline = time.monotonic() + 180  # a busy machine takes its time
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def children(pid):
    """The ids of the processes that a process has started."""
    ps = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in ps.stdout.splitlines()[1:]]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def is_running(pid):
    """Whether a process exists and is no zombie."""
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(ps.stdout.strip()) and ps.stdout.strip()[0] != "Z"


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


@pytest.mark.parametrize("stop_signal", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
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


def test_a_run_that_would_end_after_the_budget_is_not_started(conf, tmp_path):
    request = ALL_CELLS._replace(cell_pattern="A-GEM", budget_minutes=0.01)
    code, output = reproduce_tiny(conf, request, tmp_path / "out")
    assert code == 0
    assert "A-GEM: not started, it would end after the budget (0.0 minutes are left)" in output
    assert csv_rows(tmp_path / "out")[0]["verdict"] == "not judged: not run"


def test_quick_runs_are_marked_and_neither_judged_nor_compared_nor_ranked(conf, tmp_path):
    request = ALL_CELLS._replace(cell_pattern="[Ap]*", quick=True, seed_count=3)
    _, output = reproduce_tiny(conf, request, tmp_path / "out")
    assert "a quick run is not judged" in output
    text = (tmp_path / "out/tiny-quick/table.md").read_text()
    assert "# Digits: a quick run, not the paper's setting" in text
    assert "not judged: a quick run" in text
    content = json.loads((tmp_path / "out/tiny-quick/table.json").read_text())
    assert len(content["results"]) == 2
    assert (content["comparisons"], content["ranks"]) == ([], None)


def test_a_key_depends_on_what_is_computed_and_not_on_the_machine_or_the_seeds():
    def config_key(*overrides):
        return run_key(compose_config(CONF, overrides).settings)

    same = config_key("replicas.seed=[1,2]", "engine=vmap", "threads=1", "resume=auto")
    assert same == config_key()
    overrides = ("replicas.lr=0.2", "method=er", "passes=2", "buffer=uniform")
    assert len({config_key(), *map(config_key, overrides)}) == 5


def test_a_quick_run_has_another_key_than_a_full_one_and_full_ones_that_of_earlier_versions():
    config, quick = (
        compose_config(CONF, overrides).settings for overrides in ((), ("quick=true",))
    )
    assert run_key(quick) != run_key(config)
    del config["quick"]  # which earlier versions did not have
    assert run_key(config) == run_key(compose_config(CONF, ()).settings)
    small = compose_config(CONF, ("benchmark.first_tasks=3", "benchmark.samples_per_task=200"))
    assert run_key(small[0]) not in (run_key(quick), run_key(config))


def test_a_setting_that_earlier_versions_lack_is_part_of_the_key_where_it_changes_the_run():
    config = compose_config(CONF, ("optimizer.momentum=0.9",)).settings
    changes = ("alignment.of=update", "optimizer.nesterov=true", "optimizer.at_task_end=reset")
    changed = [compose_config(CONF, ("optimizer.momentum=0.9", c)).settings for c in changes]
    assert len({run_key(config), *map(run_key, changed)}) == 4
    key = run_key(config)
    for group, setting in (tuple(c.partition("=")[0].split(".")) for c in changes):
        del config[group][setting]
    assert run_key(config) == key


def test_the_number_of_threads_is_part_of_the_key_where_rounding_changes_accuracies():
    def config_key(*overrides):
        return run_key(compose_config(CONF, overrides).settings)

    for model in ("reduced_resnet18", "resnet18", "alexnet", "lenet"):
        overrides = ("benchmark=split_cifar10", f"model={model}")
        keys = {config_key(*overrides, f"threads={threads}") for threads in ("null", 1, 2)}
        assert len(keys) == 3


def test_a_cell_takes_the_runs_with_the_threads_that_were_asked_for():
    def runs_key(cell, *overrides):
        return run_key(compose_config(CONF, (*cell.overrides, *overrides)).settings)

    cells = {cell.name: cell for cell in load_table(CONF, "agem-2019-table4").cells}
    convolutional, plain = cells["Split CIFAR, VAN"], cells["Permuted MNIST, VAN"]
    for overrides in ((), ("threads=1",), ("threads=2", "device=cpu", "hydra/launcher=basic")):
        threads = [override for override in overrides if override.startswith("threads")]
        key = run_key(compose_cell(CONF, convolutional, False, overrides))
        assert key == runs_key(convolutional, *threads)
        assert key != runs_key(convolutional, "threads=3")
        assert run_key(compose_cell(CONF, plain, False, overrides)) == runs_key(plain, "threads=3")


@pytest.mark.parametrize("name", table_names(CONF))
def test_the_cells_that_can_be_run_compose_differ_and_give_what_is_published(name):
    """A cell that lacked a published metric would be repeated at every call."""
    table = load_table(CONF, name)
    runnable = [cell for cell in table.cells if cell.missing_requirement is None]
    configs = [compose_cell(CONF, cell, False) for cell in runnable]
    assert len(set(map(run_key, configs))) == len(runnable)
    assert all(
        0 < abs(value) <= 1 or value == 0 for c in table.cells for value in c.published.values()
    )
    assert all(cell.tolerance_reason for cell in runnable)
    for cell, config in zip(runnable, configs, strict=True):
        batches = config["metrics"]["lca_batches"]
        learning_curves = np.zeros((2, batches + 1)) if batches else None
        run_metrics = metrics(np.zeros((3, 2)), learning_curves).keys()
        if config["benchmark"].get("scenario") == "class":
            run_metrics |= {f"{metric}_task" for metric in run_metrics}
        assert {*cell.published, *cell.unpublished_metrics} <= run_metrics


def test_there_are_thirteen_tables():
    assert len(table_names(CONF)) == 13


def test_overrides_that_change_results_and_unknown_cells_and_tables_are_refused(conf, tmp_path):
    assert checked_overrides(["device=cpu", "hydra/launcher=slurm", "report=false"])
    with pytest.raises(UserError, match="`passes=2` is none of the overrides that a table takes"):
        checked_overrides(["passes=2"])
    with pytest.raises(UserError, match="did you mean `device`"):
        checked_overrides(["devise=cpu"])
    with pytest.raises(UserError, match=r"'gem\*' is the name of no cell; did you mean `A-GEM`\?"):
        reproduce_tiny(conf, ALL_CELLS._replace(cell_pattern="gem*"), Path(tmp_path))
    with pytest.raises(UserError, match="'' is the name of no cell, such as 'A-GEM'"):
        reproduce_tiny(conf, ALL_CELLS._replace(cell_pattern=""), Path(tmp_path))
    with pytest.raises(UserError, match="`TABLE` 'teeny' is unknown; did you mean `tiny`"):
        reproduce(conf, "teeny", ALL_CELLS, tmp_path, Console())
    with pytest.raises(UserError, match="`--from` must be folders of finished runs, found '/none'"):
        reproduce_tiny(
            conf, ALL_CELLS._replace(finished_run_folders=(Path("/none"),)), Path(tmp_path)
        )


def test_options_and_overrides_of_reproduce_stand_in_any_order(monkeypatch):
    requests = []
    monkeypatch.setattr(
        "gradalign_cli.commands.reproduce.reproduce",
        lambda conf, table, request, folder, console: requests.append((table, request)) or 0,
    )
    words = ["gem-2017-table3", "device=cpu", "threads=1"]
    assert main(["reproduce", *words, "--budget", "0"]) == 0
    assert main(["reproduce", words[0], "--budget", "0", *words[1:]]) == 0
    assert main(["reproduce", words[1], "--budget", "0", words[2], words[0]]) == 0
    assert requests[0] == requests[1] == requests[2]
    table, request = requests[0]
    assert (table, request.budget_minutes) == ("gem-2017-table3", 0)
    assert request.overrides == ("device=cpu", "threads=1")


@pytest.mark.parametrize("arguments", [["device=cpu"], ["a", "b"], ["a", "--budg", "0"]])
def test_reproduce_refuses_arguments_without_one_table_and_abbreviated_options(arguments, capsys):
    assert main(["reproduce", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_without_finished_runs_is_named_in_a_warning(conf, tmp_path):
    (tmp_path / "empty").mkdir()
    request = ALL_CELLS._replace(budget_minutes=0, finished_run_folders=(tmp_path / "empty",))
    with pytest.warns(UserWarning, match=r"--from .*empty holds no finished run"):
        reproduce_tiny(conf, request, tmp_path / "out")
