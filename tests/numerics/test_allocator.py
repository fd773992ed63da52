"""Memory that a step frees is allocated again without a page fault, in every thread."""

import subprocess
import sys

import pytest

from tests.grids import rest_is_long

# numbers in a block, and blocks in a step: the larger ones have no room in a thread's own heap and
# are more than a GiB together
SIZES = {"20 MB": (5_000_000, 5), "280 MB": (70_000_000, 5)}

STEPS = """
import resource, threading
import torch
from gradalign_cli.numerics.allocator import keep_freed_memory
torch.set_num_threads(1)
if not keep_freed_memory():
    raise SystemExit("malloc is not glibc's")
def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    tensors = [torch.ones(NUMBERS) for _ in range(BLOCKS)]
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
def print_faults_of_last_step():
    print([faults_of_a_step() for _ in range(6)][-1])
thread = threading.Thread(target=print_faults_of_last_step)
thread.start(), thread.join()
print_faults_of_last_step()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts a thread's page faults")
@pytest.mark.parametrize("size", rest_is_long(SIZES, ["20 MB"]))
def test_a_step_reuses_the_memory_that_the_last_step_freed(size: str):
    numbers, blocks = SIZES[size]
    code = STEPS.replace("NUMBERS", str(numbers)).replace("BLOCKS", str(blocks))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "malloc is not" in done.stderr:
        pytest.skip(done.stderr)
    faults = [int(line) for line in done.stdout.split()]
    assert len(faults) == 2, done.stderr
    assert all(count < 1000 for count in faults), faults
