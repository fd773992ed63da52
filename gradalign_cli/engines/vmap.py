"""Vmap: all replicas in one batched step, which pays for MLPs and not for convolutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import already_batched, batched, step_by_step
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.engines.recorded import by_recordings
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.vectors import functional_gradient


def all_together(function: Callable[..., Tensor], *trees: Any) -> Tensor:
    """A function of one replica's trees for all replicas at once."""
    found: Tensor = torch.func.vmap(function)(*trees)
    return found


def vmap(device: torch.device = CPU) -> Engine:
    """The engine that trades many small operations for a few large ones; captured on a GPU,
    recorded on a CPU."""
    if device.type == "cuda":
        return Engine("vmap", device, functional_gradient, captured(batched), all_together)
    run = by_recordings(step_by_step(already_batched), torch.func.vmap)
    return Engine("vmap", device, functional_gradient, run, one_by_one)
