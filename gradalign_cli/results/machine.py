"""Where a run took place: versions, device, memory."""

import platform
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gradalign_cli import __version__

NUMERICS = 2  # raised when a change moves results by more than rounding


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, None outside of a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    git = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return git.stdout.strip() or None


def reset_peak_memory(device: torch.device) -> None:
    """Let this process's peaks of memory count from now on, where the system can do that, so that
    a job of a sweep is not told that of an earlier one."""
    with suppress(OSError):  # Linux alone has it
        Path("/proc/self/clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def machine_record(device: torch.device) -> dict[str, Any]:
    """Entries of record.json: versions, device, threads, and peak memory in bytes."""
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    record = {
        "gradalign": __version__,
        "numerics": NUMERICS,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit,
    }
    if device.type == "cuda":
        record["device_name"] = torch.cuda.get_device_name(device)
        record["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return record
