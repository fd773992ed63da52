"""A finished run that does not count is kept when another one takes its place."""

import itertools
import os
import warnings
from pathlib import Path

from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import lock_owner
from gradalign_cli.results.run_folder import holds_finished_run
from gradalign_cli.tables.results import read_key_and_result


def set_finished_run_aside(run_folder: Path) -> None:
    """Rename the folder of a finished run, unless a process uses it, and say so in a warning. It
    may be damaged, of another version or settings, or lack a metric, and still be of use."""
    if not holds_finished_run(run_folder) or lock_owner(run_folder):
        return
    suffix, kind = "kept", "finished"
    try:
        read_key_and_result(run_folder)
    except UserError:
        suffix, kind = "damaged", "damaged"
    aside = next(
        path
        for number in itertools.count(1)
        if not os.path.lexists(path := run_folder.with_name(f"{run_folder.name}_{suffix}_{number}"))
    )
    run_folder.rename(aside)
    sentence = (
        f"{run_folder} is trained anew; the {kind} run that was there is kept as {aside.name}"
    )
    warnings.warn(sentence, stacklevel=1)
