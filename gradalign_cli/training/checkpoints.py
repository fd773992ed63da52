"""Checkpoints of a run: when they are written, and what they hold."""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gradalign_cli.errors import UserError
from gradalign_cli.files.checkpoint_files import (
    CheckpointContent,
    checkpoint_files,
    read_checkpoint,
    write_checkpoint,
)
from gradalign_cli.numerics.described_trees import DescribedTree, describe_tree, rebuild_tree

Identity = dict[str, Any]  # what must be the same where a run goes on, as JSON


class Checkpoints:
    """Writes the checkpoints of a run into its folder: at the end of every task, and in a task
    where the last one is some minutes old. Where one cannot be written, training goes on."""

    def __init__(
        self,
        folder: Path,
        minutes_between: float | None,
        make_identity: Callable[[], Identity],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """minutes_between: None where none are written;  make_identity: called for the first."""
        self.folder, self.minutes_between = folder, minutes_between
        self.make_identity = make_identity
        self.identity: Identity | None = None
        self.clock, self.last = clock, clock()

    def save(self, task_has_ended: bool, make_state: Callable[[], Any]) -> None:
        """Write a checkpoint where one is due;  make_state: gives a tree of all that the run goes
        on with."""
        if self.minutes_between is None:
            return
        if not task_has_ended and self.clock() - self.last < 60 * self.minutes_between:
            return
        self.identity = self.identity or self.make_identity()
        try:
            described = describe_tree(make_state())
            text = json.dumps({"identity": self.identity, "state": described.description})
            write_checkpoint(self.folder, CheckpointContent(text, described.tensors))
        except UserError as error:
            message = f"{error}; training goes on, and the last checkpoint stays"
            warnings.warn(message, stacklevel=1)
        self.last = self.clock()


class SavedRun(NamedTuple):
    """A checkpoint that was read, from a file at this path."""

    path: Path
    identity: Identity
    described_state: DescribedTree

    def state(self, template: Any) -> Any:
        """The tree that was saved;  template: see `rebuild_tree`. Raises UserError where the parts
        of the run have another form than they had."""
        try:
            return rebuild_tree(self.described_state, template)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            problem = f"{self.path} was written by other parts than this run has ({error})"
            raise UserError(problem) from error


def newest_saved_run(folder: Path) -> SavedRun | None:
    """The newest checkpoint of a folder that is not damaged; None where there is none. A warning
    names each that is."""
    for path in checkpoint_files(folder):
        try:
            text, tensors = read_checkpoint(path)
        except UserError as error:
            warnings.warn(f"{error} and is left out", stacklevel=1)
            continue
        content = json.loads(text)
        return SavedRun(path, content["identity"], DescribedTree(content["state"], tensors))
    return None
