"""How a command ends: the one place where errors become sentences and exit codes.

0: all is done;  1: some cells or jobs failed, a part broke a rule, or there is a bug in gradalign;
2: the input was at fault, or the machine has too little of something;  130: Ctrl-C;  143: SIGTERM.
"""

import errno
import os
import re
import sys
import traceback

from gradalign_cli.errors import Terminated, UserError

EXIT_BUG, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
WRITE_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG}
MEMORY_ADVICE = (
    "make `buffer.capacity`, `memory_batch`, `batch_size`, the model or the number of replicas "
    "smaller, or set `memory_budget`"
)
# what PyTorch's allocator on the CPU says in a RuntimeError
CPU_ALLOCATOR = re.compile(
    r"can't allocate memory|std::bad_alloc|Storage size calculation overflowed"
    r"|numel: integer multiplication overflow"
)
REPORT_ADVICE = (
    "please report it with the lines above, the command and what `gradalign info` prints"
)


def error_sentence(error: BaseException, written_folder: str | os.PathLike[str] = "") -> str | None:
    """What an error says to the user, None where it is a bug of ours.

    written_folder: where the command writes, for errors of a full disk, which name no file.
    """
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        tried = re.search(r"tried to allocate ([\d.]+ ?[A-Za-z]*)", str(error), re.IGNORECASE)
        amount = f", when {tried[1].strip()} more were needed" if tried else ""
        return f"there is too little memory{amount}: {MEMORY_ADVICE}"
    if isinstance(error, OSError):
        return file_error_sentence(error, written_folder)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or PyTorch, on a CPU or a GPU, had no memory left."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    # PyTorch is not imported here: most verbs do without it
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or bool(CPU_ALLOCATOR.search(str(error)))
    )


def file_error_sentence(error: OSError, written_folder: str | os.PathLike[str] = "") -> str:
    """Which file could not be used, and why."""
    action = "cannot write" if error.errno in WRITE_ERRORS else "cannot read or write"
    path = (
        os.fsdecode(error.filename)
        if isinstance(error.filename, str | bytes)
        else str(written_folder)
    )
    return f"{action} {path}".rstrip() + f": {error.strerror or error}"


def wants_traceback() -> bool:
    """Whether the user asks for the traceback of every error."""
    return os.environ.get("GRADALIGN_DEBUG", "") not in ("", "0")


def stop_sentence(stop: KeyboardInterrupt) -> str:
    """That the command was stopped, and what the verb has noted about what is left."""
    by = "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"
    return "; ".join([f"stopped by {by}", *getattr(stop, "__notes__", [])])


def bug_sentence() -> str:
    """That there is a bug, and what to do: in gradalign, or in modules of the user's."""
    from gradalign_cli.composition.targets import PLUGINS  # most verbs do without Hydra

    if not PLUGINS:
        return f"this is a bug in gradalign: {REPORT_ADVICE}"
    return (
        f"this is a bug in {', '.join(PLUGINS)} or in gradalign: `gradalign check` tries a part of "
        f"yours rule by rule; where it finds nothing, {REPORT_ADVICE}"
    )


def report(error: BaseException, written_folder: str | os.PathLike[str] = "") -> int:
    """Say on stderr how a command or a job ended; returns its exit code.

    written_folder: where it writes.
    """
    if isinstance(error, KeyboardInterrupt):
        sentence: str | None = stop_sentence(error)
        code = EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    else:
        sentence = error_sentence(error, written_folder)
        code = EXIT_BUG if sentence is None else EXIT_INPUT
    if sentence is None or wants_traceback():
        print_traceback(error)
    one_line = " ".join((sentence or bug_sentence()).split())
    print(f"gradalign: {one_line}", file=sys.stderr, flush=True)
    return code


def failure_file_text(error: Exception, written_folder: str | os.PathLike[str]) -> str:
    """Why a job failed, for a file: one sentence, after the traceback where it is a bug of ours.

    written_folder: where it writes.
    """
    sentence = error_sentence(error, written_folder)
    trace = "".join(traceback.format_exception(error)) if sentence is None else ""
    return trace + " ".join((sentence or bug_sentence()).split())


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error on stderr."""
    print("".join(traceback.format_exception(error)), end="", file=sys.stderr)
