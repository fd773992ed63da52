"""`--help`, sweeps and the installed wheel, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

from tests.commands.test_train import gradalign

ROOT = Path(__file__).resolve().parents[2]


def test_help_does_not_import_torch_or_hydra():
    script = (
        "import sys; from gradalign_cli.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: assert 'torch' not in sys.modules and 'hydra' not in sys.modules"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert all(word in process.stdout for word in ("train", "list", "data"))


def test_a_sweep_gives_every_job_a_folder_and_goes_on_after_a_failure(tmp_path):
    process = gradalign(
        "train", "-m", "method=finetune,agem", "batch_size=10,0", "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )  # fmt: skip
    assert "`batch_size` must be" in process.stderr
    assert process.returncode == 1
    finished = sorted(p.parent.name for p in (tmp_path / "sweep").glob("*/metrics.json"))
    assert finished == ["batch_size=10,method=agem", "batch_size=10,method=finetune"]
    jobs = re.findall(r"^job .*", process.stdout, re.M)
    assert jobs[0] == "job 1 of 4: batch_size=10,method=finetune"
    assert jobs[1].startswith("job 1 of 4: finished in ")
    assert jobs[2:4] == ["job 2 of 4: batch_size=0,method=finetune", "job 2 of 4: failed"]
    assert len(jobs) == 8
    assert "Traceback" not in process.stderr


def test_momentum_is_warned_about_and_the_constraints_it_breaks_are_counted(tmp_path):
    process = gradalign(
        "train", "optimizer.momentum=0.9", "replicas.lr=0.02", "hydra.run.dir=run", cwd=tmp_path
    )
    assert process.returncode == 0
    (warning,) = process.stderr.splitlines()  # once, and without the place in the source
    assert warning.startswith("warning: momentum, weight decay and Adam act after the alignment")
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert 0 < record["broken_constraints"] <= record["measured_steps"]


def test_the_wheel_carries_its_files_and_runs_a_new_part_of_the_user_from_any_folder(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "-q", wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    # dependencies come from the environment of the tests, gradalign from the wheel
    site = next((tmp_path / "venv").glob("lib/*/site-packages"))
    import torch

    (site / "dependencies.pth").write_text(str(Path(torch.__file__).parents[1]))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    location = subprocess.run(
        [python, "-c", "import gradalign_cli; print(gradalign_cli.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert str(site) in location.stdout
    mine = ("--config-dir", "mine", "plugins=[thirds]", "method=thirds", "hydra.run.dir=run")
    for arguments in (("new", "method", "thirds"), ("train", *mine)):
        process = subprocess.run(
            [tmp_path / "venv/bin/gradalign", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
    assert (tmp_path / "run/metrics.json").exists()
    listed = subprocess.run(
        [tmp_path / "venv/bin/gradalign", "list", "methods"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert "1706.08840" in listed.stdout
    assert "tests" not in listed.stdout.splitlines()[0]  # the wheel has none


def test_the_shell_completes_choices(tmp_path):
    environment = os.environ | {"COMP_LINE": "gradalign train method=sg"}
    process = subprocess.run(
        [sys.executable, "-m", "gradalign_cli.cli", "-sc", "query=bash"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert process.stdout.split() == ["method=sgp"]
