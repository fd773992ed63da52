"""Processes that tests start: waiting for them, and whether they run."""

import subprocess
import time


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
