"""What a logger is: a store with one run for each replica."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Logger(Protocol):
    """Stores the numbers of a run's replicas in another program's form. Steps count from 1 over all
    tasks; step 0 is the untrained network."""

    def begin(self, replica: int, settings: Mapping[str, str | float]) -> None:
        """The run of a replica begins, with these parameters by name."""

    def scalars(self, replica: int, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a replica after a step, by name; none of them is NaN."""

    def image(self, replica: int, name: str, pixels: np.ndarray) -> None:
        """A picture [height, width, 3] of bytes."""

    def close(self) -> None:
        """Store what is left, and end the runs of all replicas."""
