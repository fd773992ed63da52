"""Streams: replicas at the same time, as branches of one captured CUDA graph or in CPU threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.captured import make_captured_run
from gradalign_cli.engines.carry import step_replicas_on_streams
from gradalign_cli.engines.eager import run_replica, split_replicas, stack_replicas
from gradalign_cli.engines.engine import Engine, map_in_loop
from gradalign_cli.engines.recorded import RecordedRun
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.numerics.vectors import autograd_gradient_and_value
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace


def streams(device: torch.device = CPU) -> Engine:
    """The engine for several replicas, where one replica's operations do not fill the device.

    On a CPU each thread takes a whole replica through a chunk of recorded steps. This divides the
    work better than several threads for every operation.
    """
    if device.type == "cuda":
        run_steps = make_captured_run(step_replicas_on_streams)
        return Engine("streams", device, autograd_gradient_and_value, run_steps, map_in_loop)
    pool = ThreadPoolExecutor(
        torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
    )

    def run_in_threads(
        step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
    ) -> tuple[Learner, Trace]:
        replicas = split_replicas(learners, draws, views)
        futures = [pool.submit(run_replica, step_cycle, *replica) for replica in replicas]
        return stack_replicas([future.result() for future in futures])

    def map_replicas(function: Callable[..., Tensor], *trees: Any) -> Tensor:
        replicas = range(len(trees[0].params))
        futures = [
            pool.submit(function, *(tree_index(tree, r) for tree in trees)) for r in replicas
        ]
        return torch.stack([future.result() for future in futures])

    recorded_run = RecordedRun(run_in_threads)
    note_steps_before_resume = recorded_run.note_steps_before_resume
    return Engine(
        "streams",
        device,
        autograd_gradient_and_value,
        recorded_run,
        map_replicas,
        note_steps_before_resume,
    )
