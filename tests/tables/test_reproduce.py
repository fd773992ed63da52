"""A table on the embedded digits: run, stopped, continued, and written in every form."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.commands.reproduce import TRAIN
from gradalign_cli.composition.compose import composed
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.results.metrics import metrics
from gradalign_cli.tables.reproduce import Request, check_extra, divided, reason, reproduce
from gradalign_cli.tables.results import cell_key, key
from gradalign_cli.tables.table import load, names

SMALL = ["benchmark.samples_per_task=60", "model.widths=[8]", "metrics.lca_batches=0"]
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
EVERYTHING = Request("*", 2, None, False, 1, (), (), TRAIN)


@pytest.fixture
def conf(tmp_path):
    """The shipped configs and one table more."""
    shutil.copytree(CONF, tmp_path / "conf")
    OmegaConf.save(OmegaConf.create(TABLE), tmp_path / "conf" / "table" / "tiny.yaml")
    return tmp_path / "conf"


def ask(conf, request, out):
    """The exit code and what was said."""
    console = Console(record=True, width=200)
    code = reproduce(conf, "tiny", request, out, console)
    return code, console.export_text()


def numbers(out):
    """What the table says of each number, but for the time it took."""
    with (out / "tiny" / "table.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_table_goes_on_past_a_failing_cell_and_runs_nothing_twice(conf, tmp_path):
    out = tmp_path / "out"
    code, said = ask(conf, EVERYTHING, out)
    assert code == 1  # a cell failed
    assert "4 cells, 3 can be run, 3 still to run (about 0 minutes" in said
    assert "wrong: failed: gradalign: `method.margin` must be non-negative" in said
    verdicts = {(row["cell"], row["metric"]): row["verdict"] for row in numbers(out)}
    assert verdicts == {
        ("A-GEM", "ACC"): "within",
        ("plain", "ACC"): "not judged: published number from memory",
        ("plain", "BWT"): "not judged: published number from memory",
        ("wrong", "ACC"): "not judged: not run",
        ("birds", "ACC"): "not judged: needs CUB-200",
    }
    whole = json.loads((out / "tiny" / "table.json").read_text())
    assert list(whole["results"]["A-GEM"]["seeds"]) == ["0", "1"]
    assert (
        "1 of 1 judged numbers within tolerance, 5 published"
        in (out / "tiny" / "table.md").read_text()
    )
    assert r"\toprule" in (out / "tiny" / "table.tex").read_text()

    runs = sorted((out / "tiny" / "runs").iterdir())
    first = numbers(out)
    code, said = ask(conf, EVERYTHING._replace(cells="[Ap]*"), out)
    assert (code, "0 still to run" in said) == (0, True)
    assert sorted((out / "tiny" / "runs").iterdir()) == runs
    code, said = ask(conf, EVERYTHING._replace(cells="A-GEM", seeds=3), out)
    assert "A-GEM: running" in said  # for the third seed alone
    (row,) = numbers(out)
    assert row["n"] == "3"
    elsewhere = tmp_path / "elsewhere"
    request = EVERYTHING._replace(cells="[Ap]*", sources=(out / "tiny" / "runs",))
    assert "0 still to run" in ask(conf, request, elsewhere)[1]
    assert numbers(elsewhere)[1]["mean"] == first[1]["mean"]


def test_a_run_that_lacks_a_published_number_is_not_run_and_runs_again(conf, tmp_path):
    """As a run of an older version does, which did not count own logits."""
    request, out = EVERYTHING._replace(cells="plain", seeds=1), tmp_path / "out"
    ask(conf, request, out)
    before = numbers(out)
    (file,) = (out / "tiny" / "runs").glob("*/metrics.json")
    told = json.loads(file.read_text())
    del told["replicas"][0]["BWT"]
    file.write_text(json.dumps(told))
    _, said = ask(conf, request._replace(budget=0), out)
    assert "1 still to run" in said
    assert [row["mean"] for row in numbers(out)] == [before[0]["mean"], ""]
    ask(conf, request, out)
    assert numbers(out) == before


def started(conf, cells, passes, tmp_path):
    """A `gradalign reproduce` of longer cells, as a process and process group of its own."""
    longer = TABLE | {"overrides": [*SMALL, f"passes={passes}"]}
    OmegaConf.save(OmegaConf.create(longer), conf / "table" / "tiny.yaml")
    script = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from gradalign_cli.commands.reproduce import TRAIN\n"
        "from gradalign_cli.tables.reproduce import Request, reproduce\n"
        f"request = Request({cells!r}, 2, None, False, 1, (), (), TRAIN)\n"
        f"out = Path({str(tmp_path / 'killed')!r})\n"
        f"sys.exit(reproduce(Path({str(conf)!r}), 'tiny', request, out, Console()))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True
    )


def wait_for(condition):
    """Look again and again until it is so."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def children(pid):
    """The processes that a process has started."""
    told = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in told.stdout.splitlines()[1:]]
    return [int(own) for own, parent in pairs if int(parent) == pid]


def runs_on(pid):
    """Whether a process is there and no zombie."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(told.stdout.strip()) and told.stdout.strip()[0] != "Z"


def test_a_killed_table_loses_the_cell_in_progress_and_ends_the_same(conf, tmp_path):
    """Killed in the second cell; the first one is not run again."""
    out, request = tmp_path / "killed", EVERYTHING._replace(cells="[Ap]*")
    process = started(conf, "[Ap]*", 30, tmp_path)
    done = "killed/tiny/runs/*/accuracy.csv"
    wait_for(lambda: list(tmp_path.glob(done)))
    wait_for(lambda: list(tmp_path.glob("killed/tiny/runs/*/accuracy.partial.csv")))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    first = list(tmp_path.glob(done))
    assert len(first) == 1
    written = first[0].stat().st_mtime_ns
    _, said = ask(conf, request, out)
    assert "1 still to run" in said
    assert first[0].stat().st_mtime_ns == written
    ask(conf, request, tmp_path / "whole")
    assert numbers(out) == numbers(tmp_path / "whole")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_run_outlives_its_table(how, conf, tmp_path):
    """Not even a killed one's: it would go on in the folder that its successor writes."""
    process = started(conf, "A-GEM", 3000, tmp_path)
    runs = wait_for(lambda: list(tmp_path.glob("killed/tiny/runs/*/accuracy.partial.csv")))
    (run,) = children(process.pid)
    process.send_signal(how)
    said, _ = process.communicate()
    wait_for(lambda: not runs_on(run))
    assert not runs[0].with_name("accuracy.csv").exists()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped; the same command goes on with the runs that are missing" in said
        assert "failed" not in said


def test_a_failure_is_told_in_our_own_words_where_there_are_some():
    assert (
        reason("a\ngradalign: `x` must be y\nError executing job\n") == "gradalign: `x` must be y"
    )
    assert reason("Traceback\nKilled\n") == "Killed"
    assert reason("") == "no message"


def test_runs_beside_each_other_divide_the_cores_where_nothing_is_said(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert divided({"A": "b"}, 1) == {"A": "b"}
    assert divided({"A": "b"}, 3) == {"A": "b", "OMP_NUM_THREADS": "2"}
    assert divided({}, 20) == {"OMP_NUM_THREADS": "1"}
    assert divided({"OMP_NUM_THREADS": "5"}, 2) == {"OMP_NUM_THREADS": "5"}


def test_a_budget_that_is_spent_starts_nothing(conf, tmp_path):
    code, said = ask(conf, EVERYTHING._replace(cells="A-GEM", budget=0.01), tmp_path / "out")
    assert code == 0
    assert "A-GEM: not started, the budget of minutes is spent" in said
    assert [row["verdict"] for row in numbers(tmp_path / "out")] == ["not judged: not run"]


def test_small_runs_are_marked_and_not_judged(conf, tmp_path):
    request = EVERYTHING._replace(cells="A-GEM", quick=True, seeds=1)
    _, said = ask(conf, request, tmp_path / "out")
    assert "a quick run is not judged" in said
    text = (tmp_path / "out/tiny-quick/table.md").read_text()
    assert "# Digits: a quick run, not the paper's setting" in text
    assert "not judged: a quick run" in text


def test_small_runs_are_not_compared(conf, tmp_path):
    request = EVERYTHING._replace(cells="[Ap]*", quick=True, seeds=3)
    ask(conf, request, tmp_path / "out")
    whole = json.loads((tmp_path / "out/tiny-quick/table.json").read_text())
    assert len(whole["results"]) == 2
    assert (whole["comparisons"], whole["ranks"]) == ([], None)


def test_a_key_is_of_what_is_computed_and_not_of_where_or_which_seeds():
    def of(*overrides):
        return key(composed(CONF, overrides)[0])

    assert of("replicas.seed=[1,2]", "engine=vmap", "threads=1", "data_dir=x") == of()
    different = {of(), of("replicas.lr=0.2"), of("method=er"), of("passes=2"), of("buffer=uniform")}
    assert len(different) == 5


@pytest.mark.parametrize("name", names(CONF))
def test_every_cell_that_can_be_run_composes_and_no_two_are_the_same(name):
    table = load(CONF, name)
    runnable = [cell for cell in table.cells if cell.needs is None]
    keys = [cell_key(CONF, cell, False) for cell in runnable]
    assert len(set(keys)) == len(runnable)
    assert all(
        0 < abs(value) <= 1 or value == 0 for c in table.cells for value in c.published.values()
    )
    assert all(cell.reason for cell in runnable)


@pytest.mark.parametrize("name", names(CONF))
def test_every_cell_that_can_be_run_gives_the_numbers_it_publishes(name):
    """One that did not would be run again and again."""
    for cell in load(CONF, name).cells:
        if cell.needs is None:
            config, _ = composed(CONF, cell.overrides)
            batches = config["metrics"]["lca_batches"]
            learning = np.zeros((2, batches + 1)) if batches else None
            given = metrics(np.zeros((3, 2)), learning).keys()
            if config["benchmark"].get("scenario") == "class":
                given |= {f"{metric}_task" for metric in given}
            assert cell.published.keys() <= given


def test_there_are_tables():
    assert len(names(CONF)) == 13


def test_what_would_change_the_runs_is_refused(conf, tmp_path):
    assert check_extra(["device=cpu", "hydra/launcher=joblib"])
    with pytest.raises(UserError, match="`passes=2` would change what the table's runs compute"):
        check_extra(["passes=2"])
    with pytest.raises(UserError, match="`--cells` must be a pattern of one of A-GEM, plain"):
        ask(conf, EVERYTHING._replace(cells="GEM"), Path(tmp_path))
    with pytest.raises(UserError, match=r"`TABLE` must be one of .*tiny"):
        reproduce(conf, "teeny", EVERYTHING, tmp_path, Console())
