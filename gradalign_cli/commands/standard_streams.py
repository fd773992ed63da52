"""Standard input, output and error as a command can rely on them, whatever it was started with."""

import errno
import io
import os
import sys
from typing import Any

from gradalign_cli.results.plain_characters import register_plain_characters

READER_GONE = {errno.EPIPE, errno.EIO}  # the end of a pipe, and a terminal that was closed


def prepare_standard_streams() -> None:
    """Make standard input, output and error usable in this process: closed ones lead nowhere, a
    reader that goes away stops no work, and characters that cannot be shown become plain ones."""
    open_closed_descriptors()
    sys.stdout = stream_that_outlives_its_reader(sys.stdout, 1)
    sys.stderr = stream_that_outlives_its_reader(sys.stderr, 2)


def open_closed_descriptors() -> None:
    """Let those of the descriptors 0, 1 and 2 that are closed lead nowhere. The next files that are
    opened would have their numbers, and what a library prints would be written to these files."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # has the lowest free number
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115


def stream_that_outlives_its_reader(stream: Any, descriptor: int) -> io.TextIOWrapper:
    """A text stream like the given one, to which writing goes on where its reader has gone away."""
    register_plain_characters()
    encoding = stream.encoding if stream else "utf-8"
    line_buffering = descriptor == 2 or os.isatty(descriptor)
    if stream:
        stream.flush()
    buffer = io.BufferedWriter(OutputFile(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(buffer, encoding, "plain", line_buffering=line_buffering)


class OutputFile(io.FileIO):
    """Standard output or error. Once its reader is gone, what is written to it leads nowhere."""

    def write(self, data: Any) -> int:
        """Write bytes; returns how many."""
        try:
            return super().write(data)
        except OSError as error:
            redirect_to_devnull(self.fileno())
            if error.errno not in READER_GONE:  # a full disk
                error.filename = "standard output" if self.fileno() == 1 else "standard error"
                raise
            return len(data)


def redirect_to_devnull(descriptor: int) -> None:
    """Let all that is written to a descriptor from now on lead nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
