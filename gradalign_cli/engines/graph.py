"""Graph: one replica after the other, by captured steps on a GPU and recorded steps on a CPU."""

import torch

from gradalign_cli.engines.captured import make_captured_run
from gradalign_cli.engines.carry import step_replicas_in_loop
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine, map_in_loop
from gradalign_cli.engines.recorded import RecordedRun
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.vectors import autograd_gradient_and_value


def graph(device: torch.device = CPU) -> Engine:
    """The engine for one replica."""
    if device.type == "cuda":
        run_steps = make_captured_run(step_replicas_in_loop)
        return Engine("graph", device, autograd_gradient_and_value, run_steps, map_in_loop)
    recorded_run = RecordedRun(eager().run_steps)
    note_steps_before_resume = recorded_run.note_steps_before_resume
    return Engine(
        "graph",
        device,
        autograd_gradient_and_value,
        recorded_run,
        map_in_loop,
        note_steps_before_resume,
    )
