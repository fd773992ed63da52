"""Vmap: all replicas in one batched step, which pays for MLPs and not for convolutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.engines.captured import make_captured_run
from gradalign_cli.engines.carry import call_batched_step, make_plain_run, step_replicas_by_vmap
from gradalign_cli.engines.engine import Engine, map_in_loop
from gradalign_cli.engines.recorded import RecordedRun
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.vectors import functional_gradient


def map_by_vmap(function: Callable[..., Tensor], *trees: Any) -> Tensor:
    """`Engine.map_replicas` with all replicas in one batch."""
    results: Tensor = torch.func.vmap(function)(*trees)
    return results


def vmap(device: torch.device = CPU) -> Engine:
    """The engine that makes a few large operations of many small ones; its batched steps are
    captured on a GPU and recorded on a CPU."""
    if device.type == "cuda":
        run_steps = make_captured_run(step_replicas_by_vmap)
        return Engine("vmap", device, functional_gradient, run_steps, map_by_vmap)
    recorded_run = RecordedRun(make_plain_run(call_batched_step), vmap_replicas=True)
    note_steps_before_resume = recorded_run.note_steps_before_resume
    return Engine(
        "vmap", device, functional_gradient, recorded_run, map_in_loop, note_steps_before_resume
    )
