"""Captured: a step is recorded once as a CUDA graph and replayed, so that a GPU never waits for
Python. The recording reads a tape of draws and writes a tape of traces at a position it moves."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.engines.carry import TakeStep, step_by_step
from gradalign_cli.engines.engine import Run
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace

WARM_UP = 3  # runs before a capture, in which libraries choose their kernels
WORD = 8  # bytes, at whose multiples every part of a packed draw begins
WORTH = 20  # steps of a chunk from which a capture pays

Capture = Callable[[Callable[[], None]], Callable[[], None]]


class CapturedSteps(NamedTuple):
    """Tensors that the captured steps read and write in place, and how to replay each step.

    learners, views: [R, ...];  draws: [steps, bytes], packed;  traces: [steps, fields, R];
    position: [1] the step to take next;  replays: by step function.
    """

    learners: Learner
    views: View
    draws: Tensor
    traces: Tensor
    position: Tensor
    replays: dict[Step, Callable[[], None]]


def cuda_graph(function: Callable[[], None]) -> Callable[[], None]:
    """A CUDA graph of what `function` does to tensors that stay where they are.

    It is captured on the stream it was warmed up on, for which libraries have made their handles.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        function()
    return graph.replay


def packed(draws: Draw) -> Tensor:
    """The bytes of draws [steps, ...] in one tensor [steps, bytes], which a step reads at once."""
    parts = [
        leaf.reshape(len(leaf), leaf[0].numel()).view(torch.uint8) for leaf in tree_leaves(draws)
    ]
    return torch.cat([pad(part, (0, -part.shape[1] % WORD)) for part in parts], 1)


def unpacked(row: Tensor, like: Draw) -> Draw:
    """The draw that a row [bytes] holds, of the types and shapes of a step of `like`."""
    start = 0

    def read(leaf: Tensor) -> Tensor:
        nonlocal start
        size = leaf[0].numel() * leaf.element_size()
        part = row[start : start + size].view(leaf.dtype).view(leaf.shape[1:])
        start += size + -size % WORD
        return part

    found: Draw = tree_map(read, like)
    return found


def overwrite(held: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Write tensors over those held; a held one that is to stand in another place is read first,
    and one that stays is left."""

    def place(tensor: Tensor) -> tuple[Any, ...]:
        return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.stride()

    own, moves = {place(tensor)[0] for tensor in held}, []
    for old, new in zip(held, after, strict=True):
        if place(old) != place(new):
            moves.append((old, new.clone() if place(new)[0] in own else new))
    for old, new in moves:
        old.copy_(new)


def record(
    carry: TakeStep,
    capture: Capture,
    cycle: Sequence[Step],
    learners: Learner,
    draws: Draw,
    views: View,
) -> CapturedSteps:
    """Capture the steps of a cycle on tensors of the given shapes."""
    learners, tape = tree_map(torch.clone, learners), packed(draws)
    traces = draws.lr.new_empty(len(draws.lr), len(Trace._fields), len(learners.params))
    position = torch.zeros(1, dtype=torch.long, device=tape.device)

    def take(step: Step) -> None:
        """Take the next step of the tape."""
        draw = unpacked(tape.index_select(0, position)[0], draws)
        after, trace = carry(step, learners, draw, views)
        overwrite(tree_leaves(learners), tree_leaves(after))
        traces.index_copy_(0, position, torch.stack(trace)[None])
        position.add_(1)

    replays = {}
    for step in dict.fromkeys(cycle):
        position.zero_()  # warming up moved it
        replays[step] = capture(partial(take, step))
    return CapturedSteps(learners, views, tape, traces, position, replays)


def captured(carry: TakeStep, capture: Capture = cuda_graph) -> Run:
    """Carry learners through chunks of steps by replaying recordings of one step."""
    recordings: dict[Any, CapturedSteps] = {}
    recorded: list[Sequence[Step]] = [()]  # the cycle they are of

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        if recorded[0] is not cycle:  # another task: what was recorded holds memory
            recordings.clear()
            recorded[0] = cycle
        steps = len(draws.rows)
        shapes = tuple(leaf.shape[1:] for leaf in tree_leaves(draws))
        if shapes not in recordings or len(recordings[shapes].draws) < steps:
            if steps < WORTH:
                return step_by_step(carry)(cycle, learners, draws, views)
            recordings[shapes] = record(carry, capture, cycle, learners, draws, views)
        held = recordings[shapes]
        tree_map(lambda old, new: old.copy_(new), held.learners, learners)
        held.draws[:steps].copy_(packed(draws))
        held.position.zero_()
        for s in range(steps):
            held.replays[cycle[s % len(cycle)]]()
        return held.learners, Trace(*held.traces[:steps].clone().unbind(1))

    return run
