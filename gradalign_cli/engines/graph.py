"""Graph: a GPU replays one captured step a replica, one after the other."""

import torch

from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import one_after_other
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.errors import require
from gradalign_cli.vectors import autograd_gradient


def graph(device: torch.device) -> Engine:
    """The engine for one replica on a GPU."""
    require(device.type == "cuda", "engine", "eager, vmap or streams without a GPU", "graph")
    return Engine("graph", device, autograd_gradient, captured(one_after_other), one_by_one)
