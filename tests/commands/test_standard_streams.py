"""Pipes, closed streams, signals and encodings, in processes of their own."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gradalign_cli.commands.standard_streams import stream_that_outlives_its_reader
from gradalign_cli.results.plain_characters import in_encoding
from gradalign_cli.results.stop_notes import resume_note_of_run
from gradalign_cli.results.terminal import TerminalConsole
from tests.grids import rest_is_long
from tests.processes import wait_for

COMMAND = f"{sys.executable} -m gradalign_cli.cli"
SMALL = "benchmark.first_tasks=2 benchmark.samples_per_task=10 model.widths=[8]"

ANEW = "without a checkpoint; the same command begins anew"


def shell(command, cwd):
    """Run a shell command; stderr joins stdout where the command says so."""
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_stream_whose_reader_is_gone_takes_all_that_is_written():
    read_end, write_end = os.pipe()
    stream = stream_that_outlives_its_reader(
        io.TextIOWrapper(io.FileIO(write_end, "w", closefd=False)), write_end
    )
    os.close(read_end)
    for _ in range(3):
        stream.write("text\n")
        stream.flush()
    os.close(write_end)


def test_a_run_whose_reader_goes_away_trains_to_its_end(tmp_path):
    process = shell(
        f"{COMMAND} train {SMALL} hydra.run.dir=run | true; exit ${{PIPESTATUS[0]}}", tmp_path
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "run/accuracy.csv").is_file()


def test_closed_and_full_streams_and_plain_encodings(tmp_path):
    process = shell(
        f"{COMMAND} list buffers <&- >&- 2>&-; echo $?;"
        f"{COMMAND} list buffers > /dev/full; echo $?;"
        f"PYTHONIOENCODING=ascii NO_COLOR=1 TERM=dumb {COMMAND} explain mega1",
        tmp_path,
    )
    closed, full, *explained = process.stdout.splitlines()
    assert (closed, full) == ("0", "2")
    sentence = "gradalign: cannot write standard output: No space left on device\n"
    assert process.stderr == sentence
    assert process.returncode == 0
    (row,) = (line for line in explained if line.startswith("45 deg "))
    (head,) = (line for line in explained if line.startswith("angle  "))
    assert row.index("22 deg") == head.index("turned by")  # columns are below each other


def test_characters_that_an_encoding_lacks_become_plain():
    assert in_encoding("0.5 ± 0.1, 3 × 4, Pañcala…", "ascii") == "0.5 +- 0.1, 3 x 4, Pancala..."
    assert in_encoding("0.5 ± 0.1", "latin-1") == "0.5 ± 0.1"
    assert in_encoding("a\udcffb漢", "utf-8") == "a\\xffb漢"
    assert in_encoding("漢", "latin-1") == "?"
    console = TerminalConsole(file=io.TextIOWrapper(io.BytesIO(), "ascii"), markup=False)
    console.print("[n, H, W] ± 1")
    console.file.seek(0)
    assert console.file.read() == "[n, H, W] +- 1\n"


@pytest.mark.parametrize("number", rest_is_long([signal.SIGINT, signal.SIGTERM], [signal.SIGINT]))
def test_a_signal_ends_a_run_in_one_line_before_and_during_training(number, tmp_path):
    code, name = {signal.SIGINT: (130, "Ctrl-C"), signal.SIGTERM: (143, "SIGTERM")}[number]
    script = (
        # a shell starts what runs in its background with Ctrl-C ignored, and so the tests
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gradalign_cli.cli import main\n"
        "print('begin', flush=True); sys.exit(main())"
    )
    arguments = ["train", "passes=3000", "hydra.run.dir=run"]

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    importing = start()
    importing.stdout.readline()
    # PyTorch is being imported
    mapped_libraries = Path(f"/proc/{importing.pid}/maps")
    wait_for(lambda: "libtorch" in mapped_libraries.read_text())
    importing.send_signal(number)
    _, stderr = importing.communicate()
    assert importing.returncode == code
    assert stderr.startswith(f"gradalign: stopped by {name}")
    assert stderr.count("\n") == 1

    training = start()
    wait_for((tmp_path / "run/accuracy.partial.csv").is_file)
    training.send_signal(number)
    _, stderr = training.communicate()
    assert training.returncode == code
    left = f"{tmp_path}/run is an unfinished run with accuracy.partial.csv after 0 tasks"
    assert stderr == f"gradalign: stopped by {name}; {left} {ANEW}\n"


def test_what_is_left_of_a_run_is_said_by_its_files(tmp_path):
    assert resume_note_of_run(tmp_path) == f"{tmp_path} is an unfinished run {ANEW}"
    rows = "replica,after_task,task_1\n0,0,0.1\n0,1,0.9\n"
    (tmp_path / "accuracy.partial.csv").write_text(rows)
    assert "with accuracy.partial.csv after 1 task without a checkpoint;" in resume_note_of_run(
        tmp_path
    )
    (tmp_path / "accuracy.csv").write_text(rows)
    assert resume_note_of_run(tmp_path) == f"the run is finished, in {tmp_path}"
