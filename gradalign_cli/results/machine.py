"""Where a run took place: versions, device, memory."""

import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from gradalign_cli import __version__

NUMERICS = 1  # raised when a change moves results by more than rounding


def git_commit() -> str | None:
    """The commit of the checkout this package lies in; None outside of one."""
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    found = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def machine(device: torch.device) -> dict[str, Any]:
    """Versions, device and peak memory in bytes."""
    scale = 1 if sys.platform == "darwin" else 1024
    found = {
        "gradalign": __version__,
        "numerics": NUMERICS,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
    }
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
        found["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return found
