"""The operations of a captured step and the bytes that they move, counted without a GPU.

    python scripts/count_step.py [WORK ...] [--all]

A captured step is a fixed list of operations on a device. The same list runs on a CPU, where it is
counted: every operation of PyTorch but views. A library may need several kernels for an operation
(a scatter out of place copies first), so that the counts compare steps and predict no times. Beside
gradalign's step stands that of the bare loop of bench_step.py. Bytes are those of the tensors that
an operation reads and writes; of a tensor that it picks from, as many as it picks. The least that a
step can move are the tensors that it finds and leaves, each read or written once. GEM's quadratic
program is one operation on a CPU and is counted as on a GPU, where it takes all of its pivots.

Needs no extra. `--all` lists every operation of gradalign's step in order, with its shapes.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from bench_step import Work, captured_bare_round, gradalign_round, work_factories
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from gradalign_cli.engines.captured import make_captured_run
from gradalign_cli.engines.carry import step_replicas_in_loop
from gradalign_cli.engines.eager import eager
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.quadratic import solve_by_pivoting

WORKS = ("agem_mlp", "gem_mlp")
PICKS = ("index", "index_select", "gather")  # operations that read a part of their first argument
OVERWRITES = ("copy_", "index_put_", "index_copy_")  # those that write one without reading it
SHAPE_CHANGES = ("squeeze_",)  # those in place that move nothing


class Operation(NamedTuple):
    """An operation on a device: its name, the shapes of what it reads and writes, and the bytes."""

    name: str
    shapes: str
    read: int
    written: int


class StepCount(NamedTuple):
    """The operations of a step in order, and the least bytes that it could read and write."""

    operations: list[Operation]
    least_bytes: int

    @property
    def bytes(self) -> int:
        """All bytes that the operations read and write."""
        return sum(operation.read + operation.written for operation in self.operations)


class OperationCounter(TorchDispatchMode):
    """Writes down the operations that PyTorch carries out within this context."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.results: list[Tensor] = []  # kept, so that nothing else takes their place
        self.read: dict[int, dict[Any, int]] = {}  # bytes by storage and place, of what was there
        self.written: dict[int, dict[Any, int]] = {}  # before this context
        self.storage_bytes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.name() == "gradalign::pivoting":
            with self:  # not on the CPU, where it may stop early
                solve_by_pivoting(*tree_map(to_meta, args))
        else:
            self.write_down(function, tensors_of((args, kwargs)), tensors_of(result))
        return result

    def write_down(self, function: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Add an operation, unless it only gives a view or an empty tensor."""
        name, in_place = function.overloadpacket.__name__, function._schema.is_mutable
        is_view = not in_place and any(shares_memory(a, b) for a in inputs for b in outputs)
        if not outputs or is_view or name in SHAPE_CHANGES:
            return
        shapes = f"{[list(i.shape) for i in inputs]} -> {[list(o.shape) for o in outputs]}"
        if in_place:
            target, *values = inputs
            written = min(map(number_of_bytes, (target, *values[-1:])))
            read = self.note_read(values if name in OVERWRITES else inputs)
            self.note(self.written, target, written)
        else:
            written = sum(map(number_of_bytes, outputs))
            self.results += outputs
            if name in PICKS:
                source, *inputs = inputs
                self.note(self.read, source, written)
            read = self.note_read(inputs) + (written if name in PICKS else 0)
        self.operations.append(Operation(name, shapes, read, written))

    def note_read(self, tensors: Sequence[Tensor]) -> int:
        """Note that whole tensors are read; returns their bytes."""
        for tensor in tensors:
            self.note(self.read, tensor, number_of_bytes(tensor))
        return sum(map(number_of_bytes, tensors))

    def note(self, noted: dict[int, dict[Any, int]], tensor: Tensor, count: int) -> None:
        """Note that so many bytes of a tensor are read or written, if it was there before."""
        if any(shares_memory(tensor, result) for result in self.results):
            return
        storage = tensor.untyped_storage()
        place = tensor.storage_offset(), tensor.shape, count
        noted.setdefault(storage_number(tensor), {})[place] = count
        self.storage_bytes[storage_number(tensor)] = storage.nbytes()

    def least_bytes(self) -> int:
        """The bytes of all that was there before and is read, and of all that is written to it."""
        return sum(
            min(sum(counts.values()), self.storage_bytes[storage])
            for noted in (self.read, self.written)
            for storage, counts in noted.items()
        )


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors of a tree that have entries."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.numel()]


def to_meta(leaf: Any) -> Any:
    """A tensor without values of the same shape; anything else as it is."""
    return leaf.to("meta") if isinstance(leaf, Tensor) else leaf


def shares_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors lie in one storage."""
    return storage_number(a) == storage_number(b)


def storage_number(tensor: Tensor) -> int:
    """A number of the storage that a tensor lies in, which no other living storage has."""
    number: int = tensor.untyped_storage()._cdata
    return number


def number_of_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor, where an expanded dimension counts once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * math.prod(size if stride else 1 for size, stride in sizes)


def count_capture(counts: list[StepCount], function: Callable[[], None]) -> Callable[[], None]:
    """A stand-in for a capture, which counts what `function` does."""
    function()  # as in a warm-up
    with OperationCounter() as counter:
        function()
    counts.append(StepCount(counter.operations, counter.least_bytes()))
    return function


def count_steps(work: Work) -> dict[str, StepCount]:
    """The counts of a captured step of gradalign, plain and measured, and of the bare loop's."""
    counts: list[StepCount] = []
    capture = partial(count_capture, counts)
    captured_bare_round(work, CPU, capture)
    engine = eager()._replace(run_steps=make_captured_run(step_replicas_in_loop, capture))
    gradalign_round(work._replace(steps=20), engine, 1)()
    return dict(zip(("bare", "measured", "plain"), counts, strict=True))


def count_table(name: str, plain: StepCount, bare: StepCount) -> Table:
    """The operations of a plain step by name beside the bare loop's."""
    table = Table(title=f"{name}: operations of a captured step, and the kilobytes that they move")
    for column in ("operation", "gradalign", "bare loop", "kB", "bare kB"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    ours, theirs = (Counter(o.name for o in count.operations) for count in (plain, bare))

    def kilobytes(count: StepCount, operation: str) -> str:
        moved = [o.read + o.written for o in count.operations if o.name == operation]
        return f"{sum(moved) / 1000:.1f}"

    for operation in sorted({*ours, *theirs}, key=lambda o: (theirs[o] - ours[o], o)):
        numbers = (str(ours[operation]), str(theirs[operation]))
        table.add_row(operation, *numbers, kilobytes(plain, operation), kilobytes(bare, operation))
    table.add_section()
    totals = (str(ours.total()), str(theirs.total()))
    moved = (f"{count.bytes / 1000:.0f}" for count in (plain, bare))
    table.add_row("all", *totals, *moved)
    least = (f"{count.least_bytes / 1000:.0f}" for count in (plain, bare))
    table.add_row("the least", "", "", *least)
    return table


def main() -> None:
    """Count the steps of the named pieces of work and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"by default {', '.join(WORKS)}")
    parser.add_argument("--all", action="store_true", help="every operation, in order")
    options = parser.parse_args()
    torch.manual_seed(0)
    for name in options.works or WORKS:
        counts = count_steps(work_factories(CPU)[name]())
        Console().print(count_table(name, counts["plain"], counts["bare"]))
        print(f"a measured step: {len(counts['measured'].operations)} operations")
        for operation in counts["plain"].operations if options.all else ():
            print(f"{operation.name:28} {operation.shapes}")


if __name__ == "__main__":
    main()
