"""A module of Python, run as a program that lives no longer than the process that started it.

    python -m gradalign_cli.tables.leash MODULE ARGUMENT ...

That process holds the other end of the pipe which is our standard input. However it ends, the
system closes its end, and we end with all that a launcher has started on this machine. Jobs that it
has handed to a cluster are the cluster's.
"""

import os
import runpy
import signal
import sys
import threading


def follow() -> None:
    """Wait for the other end to be closed; then kill our process group."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)  # finished files are whole: each is written beside and moved


def main() -> None:
    """Run the module with the arguments given, in a process group of its own."""
    os.setsid()
    threading.Thread(target=follow, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
