"""Sweeps by the launchers' real packages, with a worker that is killed in the midst of a job."""

import os
import sys

import pytest

from gradalign_cli.commands.train import main
from gradalign_cli.composition import targets
from gradalign_cli.composition.launchers.registry import EXTRAS, is_installed

SMALL = ("benchmark.first_tasks=2", "benchmark.samples_per_task=5", "model.widths=[4]")
DEADLY = """
import os, signal
from pathlib import Path
from gradalign_cli.methods.method import Method

FOLDER = Path(os.environ["GRADALIGN_TEST_FOLDER"])

def deadly() -> Method:
    begun = len(list(FOLDER.glob("begun*")))
    (FOLDER / f"begun_{os.getpid()}_{begun}").touch()

    def align(gradients, state):
        try:
            (FOLDER / "killed").touch(exist_ok=False)
        except FileExistsError:
            return gradients.g, state
        os.kill(os.getpid(), signal.SIGKILL)

    return Method(align, references="pooled")
"""


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """The arguments that choose a method which kills the process that first aligns a gradient."""
    import logging

    handlers, plugins = list(logging.root.handlers), list(targets.PLUGINS)
    (tmp_path / "mine/method").mkdir(parents=True)
    (tmp_path / "mine/method/deadly.yaml").write_text("name: deadly\n_target_: deadly_part.deadly")
    (tmp_path / "mine/deadly_part.py").write_text(DEADLY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("GRADALIGN_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), *sys.path]))
    yield ["--config-dir", "mine", "plugins=[deadly_part]", "method=deadly"]
    logging.root.handlers[:], targets.PLUGINS[:] = handlers, plugins


@pytest.mark.parametrize(
    ("launcher", "options"),
    [
        ("joblib", ["hydra.launcher.n_jobs=2"]),
        ("submitit_local", []),
        ("ray", ["hydra.launcher.workers=2"]),
    ],
)
@pytest.mark.filterwarnings("default")  # of the launchers' packages, and ours of the killed worker
def test_a_sweep_outlives_a_killed_worker_and_runs_what_had_ended_once(
    launcher, options, deadly, tmp_path
):
    extra, modules = EXTRAS[f"hydra/launcher={launcher}"]
    if not all(map(is_installed, modules)):
        pytest.skip(f"needs the extra `{extra}`")
    sweep = ["-m", f"hydra/launcher={launcher}", *options, "hydra.sweep.dir=sweep"]
    with pytest.warns(UserWarning, match="a worker was killed: what has not ended starts again"):
        code = main([*sweep, *deadly, *SMALL, "batch_size=3,4"])
    if launcher == "ray":
        import ray

        ray.shutdown()
    assert code == 0
    assert (tmp_path / "killed").exists()
    finished = sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/accuracy.csv"))
    assert finished == ["batch_size=3", "batch_size=4"]
    begun = len(list(tmp_path.glob("begun*")))
    # joblib ends all workers with one, so the other job may have begun twice too
    assert begun == 3 or (launcher == "joblib" and begun == 4)
