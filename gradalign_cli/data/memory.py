"""How much memory a dataset may take."""

import os
import re
from pathlib import Path

COPIES = 3  # of the images while a dataset is loaded: as read, joined, in their order


def available_bytes() -> int:
    """Memory that the system can give to a process; all there is where it does not say."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        text = ""
    available = re.search(r"MemAvailable: +(\d+) kB", text)
    if available:
        return 1024 * int(available[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def largest_dataset_bytes() -> int:
    """The size of the largest dataset that fits into memory while it is loaded."""
    return available_bytes() // COPIES


def gibibytes_text(byte_count: int) -> str:
    """A number of bytes in words."""
    return f"{byte_count / 2**30:.3g} GiB"
