"""How much memory a process may still take on a device."""

import os
import resource
from pathlib import Path

import torch

PAGE = os.sysconf("SC_PAGE_SIZE")


def free_bytes(device: torch.device) -> int:
    """Memory of the device that this process may still take: of the machine, of its control group
    and of its address space, whichever is least."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(
        max(0, min(machine_free_bytes(), control_group_free_bytes(), address_space_free_bytes()))
    )


def machine_free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the machine can give without swapping, or its unused pages where it does not say."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return PAGE * os.sysconf("SC_AVPHYS_PAGES")
    kibibytes = dict(line.split(":") for line in lines if ":" in line)["MemAvailable"]
    return 1024 * int(kibibytes.split()[0])


def control_group_free_bytes(
    cgroup_root: Path = Path("/sys/fs/cgroup"), group_path: str | None = None
) -> float:
    """What the limits of the process's control group and of those around it leave; infinite where
    there is no limit. File pages in use count as free, as they are given back."""
    try:
        own = group_path or Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    except OSError:
        return float("inf")
    inner = cgroup_root / own.lstrip("/")
    left = [
        group_free_bytes(folder)
        for folder in (inner, *inner.parents)
        if cgroup_root in (folder, *folder.parents)
    ]
    return min(left, default=float("inf"))


def group_free_bytes(group_folder: Path) -> float:
    """What the limit of one control group leaves."""
    try:
        limit = (group_folder / "memory.max").read_text().strip()
        used = int((group_folder / "memory.current").read_text())
        statistics = (group_folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return float("inf")
    file_pages = sum(
        int(line.split()[1]) for line in statistics if line.startswith("inactive_file")
    )
    return float("inf") if limit == "max" else int(limit) - used + file_pages


def address_space_free_bytes() -> float:
    """What `ulimit -v` leaves; infinite where there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    try:
        used = PAGE * int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return float("inf")
    return limit - used
