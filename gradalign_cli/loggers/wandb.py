"""Weights & Biases: offline runs in the run's folder, which `wandb sync` sends; online where
$WANDB_MODE says so."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class WandbLogger:
    """A Logger that writes runs of Weights & Biases, grouped by the run's folder."""

    def __init__(self, run_folder: Path, experiment_name: str) -> None:
        self.run_folder, self.experiment_name = run_folder, experiment_name
        self.runs = dict[int, Any]()

    def begin(self, replica: int, settings: Mapping[str, str | float]) -> None:
        """Begin the replica's run, with its parameters."""
        import wandb

        self.runs[replica] = wandb.init(
            project=self.experiment_name,
            name=f"{self.run_folder.name} replica {replica}",
            group=self.run_folder.name,
            dir=str(self.run_folder),
            mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
            config=dict(settings),
            reinit="create_new",  # the other replicas' runs go on
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def scalars(self, replica: int, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers."""
        self.runs[replica].log(dict(values), step=step)

    def image(self, replica: int, name: str, pixels: np.ndarray) -> None:
        """Store the picture, beside the newest numbers."""
        import wandb

        self.runs[replica].log({name: wandb.Image(pixels)})

    def close(self) -> None:
        """End the runs."""
        for run in self.runs.values():
            run.finish()
