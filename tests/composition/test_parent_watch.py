"""A worker's watch on the process that launched it."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gradalign_cli.composition.launchers import joblib_launcher, parent_watch

WORKER = f"""
import runpy, sys, time
watch = runpy.run_path({parent_watch.__file__!r})
watch["wait_and_end"].__globals__["SECONDS_BETWEEN_LOOKS"] = 0.01
watch["end_with_parent"](int(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""
SWEEP = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid())])
"""


def test_a_worker_ends_when_the_process_that_launched_it_is_killed():
    sweep = subprocess.Popen([sys.executable, "-c", SWEEP, WORKER], stdout=subprocess.PIPE)
    with sweep:
        assert sweep.stdout.readline() == b"ready\n"
        sweep.send_signal(signal.SIGKILL)
        assert (
            sweep.stdout.read() == b""
        )  # which comes when the last that can write there has ended
    assert sweep.returncode == -signal.SIGKILL


def test_the_launching_process_itself_is_not_watched(monkeypatch):
    def thread(*_, **__):
        pytest.fail("a thread watches")

    monkeypatch.setattr(parent_watch.threading, "Thread", thread)
    parent_watch.end_with_parent(os.getpid())


def test_every_worker_of_joblib_watches_the_process_that_launched_it(monkeypatch):
    watched = []
    monkeypatch.setattr(joblib_launcher, "end_with_parent", watched.append)
    monkeypatch.setattr(
        joblib_launcher, "run_in_worker", lambda context, launch_environment, job: (job, "ran")
    )
    context = launch_environment = SimpleNamespace()
    assert joblib_launcher.job_and_return(context, launch_environment, 7, "job") == (
        "job",
        ("job", "ran"),
    )
    assert watched == [7]
