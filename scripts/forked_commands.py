"""Commands of gradalign in forks of this process, which has imported what takes seconds."""

import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from gradalign_cli.cli import main

CPU_LIMIT = 10  # seconds of computing until a command counts as hanging
WALL_LIMIT = 60  # seconds, as other work on the machine takes its share
MEMORY_LIMIT = 2**31  # bytes of a command's resident memory
VERBS = ("train", "list", "explain", "tune")
MODULES = (
    "torch",
    *(f"gradalign_cli.commands.{verb}" for verb in ("train", "list", "explain", "tune")),
)


class Ended(NamedTuple):
    """How a command ended.

    code: its exit code, negative for a signal;  stdout, stderr: what it printed;  folders: what it
    left in the folder it was started in, relative paths;  seconds: of computing;  memory: in bytes.
    """

    code: int
    stdout: str
    stderr: str
    left: tuple[str, ...]
    seconds: float
    memory: int


def warm_up() -> None:
    """Import what commands import, and compute nothing: a fork would lose the threads."""
    for verb in VERBS:
        import_module(f"gradalign_cli.commands.{verb}")


def run_forked(arguments: Sequence[str], prepare: Callable[[Path], None] | None = None) -> Ended:
    """Run `gradalign ARGUMENTS` in a fork and a new folder, with limits of time and memory.

    prepare: puts files into the folder before.
    """
    assert threading.active_count() == 1
    with tempfile.TemporaryDirectory() as name:
        folder, outputs = Path(name) / "work", [Path(name) / "stdout", Path(name) / "stderr"]
        folder.mkdir()
        if prepare:
            prepare(folder)
        before = entries(folder)
        child = os.fork()
        if child == 0:
            run_and_exit(arguments, folder, outputs)
        _, status, usage = os.wait4(child, 0)
        stdout, stderr = (path.read_text(errors="replace") for path in outputs)
        left = tuple(sorted(entries(folder) - before))
        shutil.rmtree(folder)
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        code, stdout, stderr, left, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    )


def run_and_exit(arguments: Sequence[str], folder: Path, outputs: Sequence[Path]) -> None:
    """Become the command, in its folder, with its output in files; does not return."""
    os.chdir(folder)
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY_LIMIT, 4 * MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
    signal.alarm(WALL_LIMIT)
    sys.argv = ["gradalign", *arguments]
    code: int | str | None = 99
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def entries(folder: Path) -> set[str]:
    """All that lies in a folder, as relative paths."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fault(ended: Ended) -> str | None:
    """What is wrong with how a command ended, None where it did what it should: it ran, or refused
    in one sentence and left nothing."""
    if ended.code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL):
        return f"it computed {ended.seconds:.0f} s, and had not ended after {WALL_LIMIT} s"
    if ended.code < 0:
        return f"it was ended by {signal.Signals(-ended.code).name}"
    if "Traceback" in ended.stderr or "Traceback" in ended.stdout:
        return "it printed a traceback"
    if ended.memory > MEMORY_LIMIT:
        return f"it took {ended.memory / 2**30:.1f} GiB"
    if ended.code not in (0, 1, 2):
        return f"its exit code is {ended.code}"
    if ended.code == 2:
        sentences = [line for line in ended.stderr.splitlines() if line.startswith("gradalign: ")]
        if not sentences:
            return "it refused without a sentence"
        if ended.left and "is an unfinished run" not in sentences[-1]:
            return f"it refused and left {ended.left[0]}"
    return None
