"""What a stopped command says about what is left and how to go on."""

from pathlib import Path
from shlex import quote

from gradalign_cli.files.checkpoint_files import checkpoint_files
from gradalign_cli.files.folder_override import folder_override
from gradalign_cli.results.final_files import LAST_FILE


def resume_note_of_run(run_folder: Path) -> str:
    """Of a run that writes to the folder."""
    if (run_folder / LAST_FILE).is_file():
        return f"the run is finished, in {run_folder}"
    if not run_folder.is_dir():
        return "nothing is written; the same command begins anew"
    left = f"{run_folder} is an unfinished run"
    partial_file = run_folder / "accuracy.partial.csv"
    if partial_file.is_file():
        last_row = partial_file.read_text(encoding="utf-8").splitlines()[-1]
        tasks = int(last_row.split(",")[1])
        left += f" with accuracy.partial.csv after {tasks} task{'' if tasks == 1 else 's'}"
    if checkpoint_files(run_folder):
        return f"{left}; `gradalign resume {quote(str(run_folder))}` goes on"
    return f"{left} without a checkpoint; the same command begins anew"


def resume_note_of_sweep(sweep_folder: Path) -> str:
    """Of a sweep whose jobs have their folders in the folder."""
    finished = len(list(sweep_folder.glob(f"**/{LAST_FILE}")))
    jobs = "1 job is" if finished == 1 else f"{finished} jobs are"
    place = quote(folder_override("hydra.sweep.dir", sweep_folder))
    return (
        f"{jobs} finished, in {sweep_folder}; the same command with {place} goes on with the others"
    )
