"""A worker ends soon after the process that launched it, however that has ended."""

import os
import signal
import threading
import time
from functools import cache

SECONDS_BETWEEN_LOOKS = 1.0


@cache
def end_with_parent(parent: int) -> None:
    """Let this process end where its parent is, or becomes, another than the one with this id. A
    sweep that is killed then leaves no worker that goes on with jobs and keeps their folders.

    A process that is no child, but the parent itself, is left alone.
    """
    if os.getpid() != parent:
        threading.Thread(target=wait_and_end, args=(parent,), daemon=True).start()


def wait_and_end(parent: int) -> None:
    """Wait until the parent of this process has ended, then end this process."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
