"""Memory that a step frees is allocated again without a page fault, in every thread."""

import subprocess
import sys

import pytest

STEPS = """
import resource, threading
import torch
from gradalign_cli.numerics.allocator import keep_freed_memory
torch.set_num_threads(1)
if not keep_freed_memory():
    raise SystemExit("malloc is not glibc's")
def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    tensors = [torch.ones(5_000_000) for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
def print_faults_of_last_step():
    print([faults_of_a_step() for _ in range(8)][-1])
thread = threading.Thread(target=print_faults_of_last_step)
thread.start(), thread.join()
print_faults_of_last_step()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts a thread's page faults")
def test_a_step_reuses_the_memory_that_the_last_step_freed():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True)
    if "malloc is not" in done.stderr:
        pytest.skip(done.stderr)
    faults = [int(line) for line in done.stdout.split()]
    assert len(faults) == 2, done.stderr
    assert all(count < 1000 for count in faults), faults
