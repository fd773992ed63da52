"""Ctrl-C and SIGTERM: how they reach the verb."""

import os
import signal
from types import FrameType

from gradalign_cli.commands.exit import report
from gradalign_cli.errors import Terminated

STOPS: dict[int, type[KeyboardInterrupt]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
NOTHING_WRITTEN = "nothing had begun"


def exit_on_stop() -> None:
    """Let Ctrl-C and SIGTERM end the process at once with one line.

    For the seconds in which libraries are imported: an exception that is raised in the midst of an
    import can come out of it as another one.
    """
    install_stop_handler(exit_at_once)


def raise_on_stop() -> None:
    """Let Ctrl-C and SIGTERM raise an exception, so that what is running ends in order. The same
    signal a second time ends the process at once."""
    install_stop_handler(raise_stop)


def install_stop_handler(handler: "signal._HANDLER") -> None:
    """Handle both signals, except where whoever started this process has them ignored, as a shell
    does with Ctrl-C for what runs in its background."""
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def exit_at_once(signal_number: int, frame: FrameType | None) -> None:
    """Say that the command is stopped, and end."""
    stop = STOPS[signal_number]()
    stop.add_note(NOTHING_WRITTEN)
    os._exit(report(stop))


def raise_stop(signal_number: int, frame: FrameType | None) -> None:
    """Raise the exception of a signal, and leave the next one to the system."""
    for each in STOPS:
        signal.signal(each, signal.SIG_DFL)
    raise STOPS[signal_number]
