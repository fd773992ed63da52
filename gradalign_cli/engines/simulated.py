"""The engines of a GPU on the simulated device, with the rules of a capture as a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradalign_cli.engines.captured import make_captured_run
from gradalign_cli.engines.carry import step_replicas_by_vmap, step_replicas_in_loop
from gradalign_cli.engines.engine import Engine, map_in_loop
from gradalign_cli.engines.vmap import map_by_vmap
from gradalign_cli.numerics.simulated_device import (
    SIMULATED,
    SimulatedTensor,
    tensors_among,
)
from gradalign_cli.numerics.vectors import autograd_gradient_and_value, functional_gradient

READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")
CHECKS = ("_linalg_check_errors", "_linalg_eigh", "_linalg_svd")  # read whether a library succeeded


class CaptureError(RuntimeError):
    """What a captured step must not do: to wait for the device, or to copy to or from it."""


class CaptureRules(TorchDispatchMode):
    """Raises CaptureError where a captured step would wait for the device, or copy."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = function.overloadpacket.__name__, kwargs or {}
        tensors = tensors_among((*args, *kwargs.values()))
        on_device = [isinstance(tensor, SimulatedTensor) for tensor in tensors if tensor.dim()]
        masked = name == "index" and any(tensor.dtype == torch.bool for tensor in tensors[1:])
        if any(isinstance(tensor, SimulatedTensor) for tensor in tensors) and (
            masked or name in READS + CHECKS
        ):
            raise CaptureError(f"{function} waits for the device")
        target = kwargs.get("device") if name == "_to_copy" else None
        moved = target is not None and target != tensors[0].device
        if moved or (any(on_device) and not all(on_device)):
            raise CaptureError(f"{function} copies between devices")
        return function(*args, **kwargs)


def capture_strictly(function: Callable[[], None]) -> Callable[[], None]:
    """A capture on the simulated device, with the rules of a capture on a GPU."""

    def replay() -> None:
        with CaptureRules():
            function()

    replay()  # as in a warm-up, what it writes must not matter
    return replay


def simulated_graph(min_captured_chunk_steps: int) -> Engine:
    """The engine `graph` of a GPU, which captures chunks of at least `min_captured_chunk_steps`."""
    run_steps = make_captured_run(step_replicas_in_loop, capture_strictly, min_captured_chunk_steps)
    return Engine("graph", SIMULATED, autograd_gradient_and_value, run_steps, map_in_loop)


def simulated_vmap(min_captured_chunk_steps: int) -> Engine:
    """The engine `vmap` of a GPU, which captures chunks of at least `min_captured_chunk_steps`."""
    run_steps = make_captured_run(step_replicas_by_vmap, capture_strictly, min_captured_chunk_steps)
    return Engine("vmap", SIMULATED, functional_gradient, run_steps, map_by_vmap)
