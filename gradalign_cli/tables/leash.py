"""A `gradalign train` that lives no longer than the process that started it.

That process holds the other end of the pipe which is our standard input. However it ends, the
system closes its end, and we end with all that a launcher has started on this machine. Jobs that it
has handed to a cluster are the cluster's.
"""

import os
import signal
import sys
import threading


def follow() -> None:
    """Wait for the other end to be closed; then kill our process group."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)  # finished files are whole: each is written beside and moved


def main() -> int:
    """`gradalign` with the arguments given, in a process group of its own."""
    os.setsid()
    threading.Thread(target=follow, daemon=True).start()
    from gradalign_cli.cli import main as gradalign

    return gradalign(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
