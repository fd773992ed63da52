"""TensorBoard: event files in the run's folder, `tensorboard/replica_0` and so on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class TensorBoardLogger:
    """A Logger that writes TensorBoard's event files into a run's folder."""

    def __init__(self, run_folder: Path, experiment_name: str) -> None:
        self.event_folder, self.writers = run_folder / "tensorboard", dict[int, Any]()

    def begin(self, replica: int, settings: Mapping[str, str | float]) -> None:
        """Open the replica's event file. The parameters are a text in it."""
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter(str(self.event_folder / f"replica_{replica}"))
        lines = [f"    {name}: {value}" for name, value in settings.items()]
        writer.add_text("parameters", "\n".join(lines))
        self.writers[replica] = writer

    def scalars(self, replica: int, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers."""
        for name, value in values.items():
            self.writers[replica].add_scalar(name, value, step)

    def image(self, replica: int, name: str, pixels: np.ndarray) -> None:
        """Write the picture."""
        self.writers[replica].add_image(name, pixels, dataformats="HWC")

    def close(self) -> None:
        """Close the event files."""
        for writer in self.writers.values():
            writer.close()
