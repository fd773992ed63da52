"""The script for the first hour on a GPU, on the simulated device and on the CPU."""

import json
import sys
from fnmatch import fnmatch

import pytest

from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.simulated import simulated_graph
from gradalign_cli.numerics.simulated_device import SIMULATED, simulated_device
from gradalign_cli.tables.table import load_table
from tests.script_modules import load_script


@pytest.fixture(scope="module")
def gpu_day():
    """The script as a module."""
    return load_script("gpu_day")


def test_captured_steps_on_the_simulated_device_are_the_cpus(gpu_day, capsys):
    with simulated_device():
        assert gpu_day.check_steps(SIMULATED, simulated_graph(3), small=True)
    assert "gem_mlp: parameters differ by" in capsys.readouterr().out


def test_a_step_that_ends_elsewhere_is_told(gpu_day, capsys):
    def run_twice(cycle, learners, draws, views):
        learners, _ = eager().run_steps(cycle, learners, draws, views)
        return eager().run_steps(cycle, learners, draws, views)

    wrong = eager()._replace(run_steps=run_twice)
    assert not gpu_day.check_steps(gpu_day.CPU, wrong, small=True)


def test_a_stage_that_fails_or_runs_out_of_time_leaves_the_results_of_the_others(gpu_day, tmp_path):
    def python(code):
        return (sys.executable, "-u", "-c", code)

    stage = gpu_day.Stage(
        "any",
        0.0,
        (
            gpu_day.Job("good", python("print(1)")),
            gpu_day.Job("bad", python("print(2); exit(3)")),
            gpu_day.Job("long", python("import time; print(3); time.sleep(60)")),
            gpu_day.Job("late", python("print(4)")),
        ),
    )
    results = gpu_day.run_stage(stage, 4.0, tmp_path)
    ended = [result["ended"] for result in results]
    assert ended == ["ok", "failed with code 3", "out of time", "not started"]
    texts = [(tmp_path / f"{name}.txt").read_text() for name in ("good", "bad", "long")]
    assert texts == ["1\n", "2\n", "3\n"]
    assert json.dumps(results)


def test_a_profile_names_the_operations_of_a_step(gpu_day, tmp_path):
    assert gpu_day.write_profiles(gpu_day.CPU, eager(), True, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["profile_agem_mlp.txt"]
    assert "aten::mm" in (tmp_path / "profile_agem_mlp.txt").read_text()


def test_the_plan_shares_out_all_minutes(gpu_day, tmp_path):
    every_stage = gpu_day.stages("cuda", tmp_path, small=False)
    assert sum(stage.seconds for stage in every_stage.values()) == 12 * 60
    table = gpu_day.plan_table(every_stage, minutes=6)
    seconds = [float(cell) for cell in table.columns[2].cells]
    assert sum(seconds) == 6 * 60
    assert len(seconds) == 6


def test_every_stage_names_jobs_whose_cells_and_works_exist(gpu_day, tmp_path):
    for small in (False, True):
        for stage in gpu_day.stages("cuda", tmp_path, small).values():
            for job in stage.jobs:
                if "reproduce" in job.command:
                    table = job.command[job.command.index("reproduce") + 1]
                    pattern = job.command[job.command.index("--cells") + 1]
                    cells = [cell.name for cell in load_table(CONF, table).cells]
                    assert any(fnmatch(cell, pattern) for cell in cells), pattern
