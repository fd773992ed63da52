"""Sweeps and plugins through the verb, in this process."""

import logging
import os
import re
import sys

import pytest

from gradalign_cli.commands.train import main
from gradalign_cli.composition import targets
from gradalign_cli.errors import UserError

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
    assert finished[3] == "batch_size=5"
    assert all(re.fullmatch(r"-?\d\.\d{4} ± \d\.\d{4}", metric) for metric in finished[1:3])
    assert failed[1:] == ["failed", "", ""]
    assert os.listdir(folder / "sweep/batch_size=0") == ["failure.txt"]
    reason = (folder / "sweep/batch_size=0/failure.txt").read_text()
    assert reason == "`batch_size` must be a whole number of at least 1, found 0\n"
    assert (folder / "sweep/batch_size=5/.hydra/overrides.yaml").exists()
    assert not list(folder.rglob("*.log"))


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
