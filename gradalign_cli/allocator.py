"""Keep freed memory in the process: a step frees and asks again for the same megabytes."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**30


def keep_freed_memory() -> bool:
    """Tell glibc not to give large blocks back to the system; False where malloc is another.

    By default a block of a megabyte is mapped anew, page by page, each time it is asked for, which
    can cost more than the arithmetic done on it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
