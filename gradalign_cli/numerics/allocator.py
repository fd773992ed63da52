"""Keep freed memory in the process, because a step frees and allocates the same megabytes again."""

import ctypes

# glibc's names, and their numbers in malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
THRESHOLD_BYTES = 2**30
TOP_PAD_BYTES = 2**27  # more than the 64 MB of a thread's heap, so that an empty heap is kept


def keep_freed_memory() -> bool:
    """Tell glibc not to return large blocks to the system; False where malloc is not glibc's.

    By default, each allocation of a block of a megabyte maps it anew, page by page, which can cost
    more than the arithmetic on it. The same holds for the heaps of threads other than the first.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    options = {
        M_MMAP_THRESHOLD: THRESHOLD_BYTES,
        M_TRIM_THRESHOLD: THRESHOLD_BYTES,
        M_TOP_PAD: TOP_PAD_BYTES,
    }
    return all([bool(mallopt(*option)) for option in options.items()])
