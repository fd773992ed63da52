"""Graph: one captured or recorded step a replica, one replica after the other."""

import torch

from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import one_after_other
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.engines.recorded import by_recordings
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.vectors import autograd_gradient


def graph(device: torch.device = CPU) -> Engine:
    """The engine for one replica: a GPU replays a captured step, a CPU repeats a recorded one."""
    on_gpu = device.type == "cuda"
    run = captured(one_after_other) if on_gpu else by_recordings(eager().run)
    return Engine("graph", device, autograd_gradient, run, one_by_one)
