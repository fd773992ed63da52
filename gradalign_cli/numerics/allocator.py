"""Keep freed memory in the process, because a step frees and allocates the same megabytes again."""

import ctypes

# glibc's names, and their numbers in malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
OPTIONS = {
    M_TRIM_THRESHOLD: -1,  # return nothing
    M_MMAP_THRESHOLD: 2**30,
    M_ARENA_MAX: 1,  # threads share a heap: one of their own has no room for blocks over 64 MB
    M_TOP_PAD: 2**27,
}


def keep_freed_memory() -> bool:
    """Tell glibc not to return large blocks to the system; False where malloc is not glibc's.

    By default, each allocation of a block of a megabyte maps it anew, page by page, which can cost
    more than the arithmetic on it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return all([bool(mallopt(*option)) for option in OPTIONS.items()])
