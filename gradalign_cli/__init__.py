"""gradalign: what to do with a gradient that hurts the old tasks.

The names in `HOMES` are the public ones (docs/library.md); what is not among them may change. Each
is imported when it is first used, so that the command line starts quickly.
"""

from importlib import import_module
from typing import Any

__version__ = "0.3.0.dev0"

HOMES = {
    "Arrivals": "gradalign_cli.buffers.buffer",
    "Benchmark": "gradalign_cli.benchmarks.benchmark",
    "Buffer": "gradalign_cli.buffers.buffer",
    "CapacityUnit": "gradalign_cli.buffers.buffer",
    "Dataset": "gradalign_cli.data.dataset",
    "EndedTask": "gradalign_cli.buffers.buffer",
    "Examples": "gradalign_cli.benchmarks.examples",
    "Gradients": "gradalign_cli.methods.method",
    "Layer": "gradalign_cli.models.model",
    "LossInputs": "gradalign_cli.methods.method",
    "Memory": "gradalign_cli.buffers.buffer",
    "Method": "gradalign_cli.methods.method",
    "MethodSetup": "gradalign_cli.methods.method",
    "Model": "gradalign_cli.models.model",
    "Output": "gradalign_cli.models.model",
    "Probe": "gradalign_cli.methods.method",
    "RunResult": "gradalign_cli.library",
    "Stream": "gradalign_cli.benchmarks.benchmark",
    "TaskViews": "gradalign_cli.benchmarks.benchmark",
    "UserError": "gradalign_cli.errors",
    "cross_entropy": "gradalign_cli.models.losses",
    "dataset_tensors": "gradalign_cli.benchmarks.options",
    "direction": "gradalign_cli.library",
    "empty_memory": "gradalign_cli.buffers.buffer",
    "flatten_tensors": "gradalign_cli.numerics.vectors",
    "forgetting_matrix": "gradalign_cli.results.metrics",
    "generator": "gradalign_cli.numerics.generators",
    "keep_gradient": "gradalign_cli.methods.method",
    "keep_memory": "gradalign_cli.buffers.buffer",
    "load": "gradalign_cli.composition.finished_run",
    "load_dataset": "gradalign_cli.data.sources",
    "make_gradients": "gradalign_cli.contract.gradients",
    "make_method": "gradalign_cli.library",
    "metrics": "gradalign_cli.results.metrics",
    "permuted": "gradalign_cli.benchmarks.permuted",
    "ratio_or_zero": "gradalign_cli.numerics.vectors",
    "require": "gradalign_cli.errors",
    "require_choice": "gradalign_cli.errors",
    "rotated": "gradalign_cli.benchmarks.rotated",
    "run": "gradalign_cli.library",
    "split": "gradalign_cli.benchmarks.split",
    "split_vector": "gradalign_cli.numerics.vectors",
    "total_capacity": "gradalign_cli.buffers.buffer",
    "write_to_slots": "gradalign_cli.buffers.buffer",
}
__all__ = ["__version__", *HOMES]


def __getattr__(name: str) -> Any:
    """A public name, imported from the module that it lives in (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
