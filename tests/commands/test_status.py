"""`gradalign status`: what a sweep's folder tells of its jobs."""

import json
import subprocess
import sys

import pytest

from gradalign_cli.commands.status import main
from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import FolderLock
from gradalign_cli.results.sweep_folder import add_sweep_jobs

RECORD = {"setup_seconds": 10, "training_seconds": 80, "evaluation_seconds": 10}


@pytest.fixture
def sweep(tmp_path):
    """A sweep of eight jobs: two are done, one runs, one failed, one was killed, three are to
    come."""
    add_sweep_jobs(tmp_path, [f"passes={n}" for n in range(1, 9)])
    for name in ("passes=1", "passes=2", "passes=3", "passes=4", "passes=5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    for name in ("passes=1", "passes=2"):
        (tmp_path / name / "record.json").write_text(json.dumps(RECORD))
        (tmp_path / name / "metrics.json").touch()
        (tmp_path / name / "accuracy.csv").touch()
    (tmp_path / "passes=4/failure.txt").write_text("Traceback\n`lr` must be positive, found 0\n")
    (tmp_path / "passes=5/run.lock").write_text("process 1 on here since 2026-01-01")
    (tmp_path / ".submitit/1").mkdir(parents=True)
    lock = FolderLock(tmp_path / "passes=3")
    yield tmp_path
    lock.release()


def test_the_jobs_of_a_sweep_are_counted_and_named_where_they_run_or_failed(sweep, capsys):
    assert main([str(sweep)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 done, 1 running, 1 failed, 4 left, 1 of them unfinished; 8 jobs"
    assert lines[1].startswith("running: passes=3: process ")
    assert lines[2] == "failed: passes=4: `lr` must be positive, found 0"
    # 100 s each, one at a time: half of one is done, four are to come
    assert lines[3:] == ["about 8 minutes left"]


def test_a_sweep_that_was_killed_is_told_how_to_go_on(sweep, capsys):
    (sweep / "passes=3/run.lock").unlink()
    (sweep / "passes=4/failure.txt").unlink()
    assert main([str(sweep)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 done, 0 running, 0 failed, 6 left, 3 of them unfinished; 8 jobs"
    assert lines[1:] == [f"nothing runs; the sweep's command with hydra.sweep.dir={sweep} goes on"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "must be valid JSON"),
        ('{"jobs": 5}', "must list the jobs of a sweep"),
        ('{"jobs": [], "jobs_in_all": 1e99}', "must have at most 10000 jobs"),
    ],
)
def test_a_strange_sweep_file_is_refused_in_a_sentence(text, sentence, tmp_path):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        main([str(tmp_path)])


def test_a_folder_without_jobs_is_no_sweep(tmp_path):
    with pytest.raises(UserError, match="`SWEEP_DIR` must be the folder of a sweep, found no fold"):
        main([str(tmp_path / "missing")])
    with pytest.raises(UserError, match="`SWEEP_DIR` must be the folder of a sweep, found no job"):
        main([str(tmp_path)])


def test_status_answers_without_pytorch(tmp_path):
    add_sweep_jobs(tmp_path, ["passes=1"])
    code = (
        "import sys; from gradalign_cli.cli import main\n"
        f"assert main(['status', {str(tmp_path)!r}]) == 0\n"
        "assert 'torch' not in sys.modules and 'hydra' not in sys.modules"
    )
    assert "1 left; 1 jobs" in subprocess.check_output([sys.executable, "-c", code], text=True)
