"""Keep freed memory in the process: a step frees and asks again for the same megabytes."""

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
LARGEST = 2**30
SPARE = 2**27  # more than the 64 MB of a thread's heap, so that an empty one is kept


def keep_freed_memory() -> bool:
    """Tell glibc not to give large blocks back to the system; False where malloc is another.

    By default a block of a megabyte is mapped anew, page by page, each time it is asked for, which
    can cost more than the arithmetic done on it; so are the heaps of threads other than the first.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    sizes = {MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: LARGEST, TOP_PAD: SPARE}
    return all([bool(mallopt(*size)) for size in sizes.items()])
