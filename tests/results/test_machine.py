import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradalign_cli.results.machine import git_commit, machine_record, reset_peak_memory

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="these sources are no checkout")
def test_in_a_checkout_the_commit_is_recorded():
    git = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert git_commit() == (git.stdout.strip() or None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a peak")
def test_the_peak_of_memory_counts_anew_for_each_job():
    with mmap.mmap(-1, 2**28) as block:  # which the system takes back, unlike what malloc frees
        block.write(bytes(2**28))
        with_block = machine_record(torch.device("cpu"))["peak_memory_bytes"]
    assert machine_record(torch.device("cpu"))["peak_memory_bytes"] >= with_block
    reset_peak_memory(torch.device("cpu"))
    assert machine_record(torch.device("cpu"))["peak_memory_bytes"] < with_block - 2**27
