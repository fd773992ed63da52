"""Runs a Python module as a program that ends when the process that started it ends.

    python -m gradalign_cli.tables.leash MODULE ARGUMENT ...

Standard input must be the read end of a pipe whose write end the starting process holds. However
that process ends, the system closes its end of the pipe. The program then kills its own process
group: the module and everything that a launcher started on this machine. Jobs that a launcher
submitted to a cluster go on.
"""

import os
import runpy
import signal
import sys
import threading


def kill_group_when_parent_ends() -> None:
    """Wait until the pipe at standard input is closed, then kill this process group."""
    os.read(0, 1)
    # no final file is left half written, as each is written under another name and renamed
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the module named on the command line, in a process group of its own."""
    os.setsid()
    threading.Thread(target=kill_group_when_parent_ends, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
