"""Captured steps: on a GPU a step is captured once, as a CUDA graph, and then replayed, so that the
GPU never waits for Python. recorded.py does something similar on a CPU.

A CUDA graph repeats the same operations on the same tensors. The captured step therefore reads the
draws and writes the traces of a whole chunk of steps at a position that is a tensor, too, and that
the step itself moves on.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.carry import StepReplicas, make_plain_run
from gradalign_cli.engines.engine import RunSteps
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace

WARM_UP_CALLS = 3  # before a capture; in them libraries choose their kernels
WORD_BYTES = 8  # every tensor of a packed draw begins at a multiple
MIN_CAPTURED_CHUNK_STEPS = 20  # for fewer a capture does not pay

# captures what a function does to tensors and returns a function that replays it
Capture = Callable[[Callable[[], None]], Callable[[], None]]


class CapturedSteps(NamedTuple):
    """The tensors that captured steps read and write in place, and the functions that replay them.

    learners:     [R, ...] replaced by those after the step.
    views:        [R, ...] stored because a captured step reads their memory.
    packed_draws: [steps, bytes] see `pack_draws`.
    traces:       [steps, fields of a trace, R].
    next_step:    [1] the number of the next step in packed_draws and traces.
    replays:      for each step function, the function that takes the next step.
    """

    learners: Learner
    views: TaskViews
    packed_draws: Tensor
    traces: Tensor
    next_step: Tensor
    replays: dict[Step, Callable[[], None]]


def capture_cuda_graph(function: Callable[[], None]) -> Callable[[], None]:
    """Capture what `function` does to tensors that stay in their places; returns the replay.

    It is captured on the stream that it was warmed up on, because libraries made their handles for
    that stream.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        function()
    return graph.replay


def pack_draws(draws: Draw) -> Tensor:
    """The bytes [steps, bytes] of draws [steps, ...], so that one operation reads a draw."""
    parts = [
        leaf.reshape(len(leaf), leaf[0].numel()).view(torch.uint8) for leaf in tree_leaves(draws)
    ]
    return torch.cat([pad(part, (0, -part.shape[1] % WORD_BYTES)) for part in parts], 1)


def unpack_draw(packed_draw: Tensor, template_draws: Draw) -> Draw:
    """The draw of one step from its bytes [bytes]; `template_draws` [steps, ...] are of its types
    and shapes."""
    start = 0

    def read(leaf: Tensor) -> Tensor:
        nonlocal start
        size = leaf[0].numel() * leaf.element_size()
        part = packed_draw[start : start + size].view(leaf.dtype).view(leaf.shape[1:])
        start += size + -size % WORD_BYTES
        return part

    draw: Draw = tree_map(read, template_draws)
    return draw


def overwrite(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy each value into its target. A value that shares memory with a target is cloned before
    the first copy, and skipped where it is its own target."""

    def location(tensor: Tensor) -> tuple[Any, ...]:
        return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.stride()

    target_storages, copies = {location(target)[0] for target in targets}, []
    for target, value in zip(targets, values, strict=True):
        if location(target) != location(value):
            shared = location(value)[0] in target_storages
            copies.append((target, value.clone() if shared else value))
    for target, value in copies:
        target.copy_(value)


def capture_steps(
    step_replicas: StepReplicas,
    capture: Capture,
    step_cycle: Sequence[Step],
    learners: Learner,
    draws: Draw,
    views: TaskViews,
) -> CapturedSteps:
    """Capture the step functions of a cycle, on new tensors like these learners and draws."""
    learners, packed_draws = tree_map(torch.clone, learners), pack_draws(draws)
    traces = draws.lr.new_empty(len(draws.lr), len(Trace._fields), len(learners.params))
    next_step = torch.zeros(1, dtype=torch.long, device=packed_draws.device)

    def take_next_step(step: Step) -> None:
        draw = unpack_draw(packed_draws.index_select(0, next_step)[0], draws)
        next_learners, trace = step_replicas(step, learners, draw, views)
        overwrite(tree_leaves(learners), tree_leaves(next_learners))
        values = torch.stack(trace) if len(trace) > 1 else trace.loss[None]
        traces[:, : len(trace)].index_copy_(0, next_step, values[None])
        next_step.add_(1)

    replays = {}
    for step in dict.fromkeys(step_cycle):
        next_step.zero_()  # warming up moved it
        replays[step] = capture(partial(take_next_step, step))
    return CapturedSteps(learners, views, packed_draws, traces, next_step, replays)


def make_captured_run(
    step_replicas: StepReplicas,
    capture: Capture = capture_cuda_graph,
    min_captured_chunk_steps: int | None = None,
) -> RunSteps:
    """`Engine.run_steps` by replaying captured steps; chunks of fewer steps than
    `min_captured_chunk_steps`, by default MIN_CAPTURED_CHUNK_STEPS, run without a capture."""
    captures: dict[Any, CapturedSteps] = {}  # by the shapes of a draw
    captured_functions: set[Step] = set()

    def run_steps(
        step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
    ) -> tuple[Learner, Trace]:
        if captured_functions != set(step_cycle):
            # a new task: free the memory of the last one's captures
            captures.clear()
            captured_functions.clear()
            captured_functions.update(step_cycle)
        steps = len(draws.rows)
        shapes = tuple(leaf.shape[1:] for leaf in tree_leaves(draws))
        if shapes not in captures or len(captures[shapes].packed_draws) < steps:
            if steps < (min_captured_chunk_steps or MIN_CAPTURED_CHUNK_STEPS):
                return make_plain_run(step_replicas)(step_cycle, learners, draws, views)
            captures[shapes] = capture_steps(
                step_replicas, capture, step_cycle, learners, draws, views
            )
        captured = captures[shapes]
        tree_map(lambda target, value: target.copy_(value), captured.learners, learners)
        captured.packed_draws[:steps].copy_(pack_draws(draws))
        captured.next_step.zero_()
        captured.traces.fill_(torch.nan)  # a step that is not measured writes its loss alone
        for s in range(steps):
            captured.replays[step_cycle[s % len(step_cycle)]]()
        return captured.learners, Trace(*captured.traces[:steps].clone().unbind(1))

    return run_steps
