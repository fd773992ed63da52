"""Ways to take all replicas through one step, all with the results of a loop over the replicas."""

from collections.abc import Callable, Sequence
from functools import cache

import torch

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.engine import RunSteps
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import LossTrace, Trace, stack_traces

StepResult = tuple[Learner, Trace | LossTrace]  # [R, ...] of all replicas
# takes all replicas through one step; everything is [R, ...]
StepReplicas = Callable[[Step, Learner, Draw, TaskViews], StepResult]


def step_replicas_in_loop(
    step: Step, learners: Learner, replica_draws: Draw, views: TaskViews
) -> StepResult:
    """One replica after the other."""
    replicas = range(len(learners.params))
    results = [
        step(tree_index(learners, r), tree_index(replica_draws, r), tree_index(views, r))
        for r in replicas
    ]
    stacked: StepResult = tree_stack(results)
    return stacked


@cache
def cuda_streams(count: int) -> list[torch.cuda.Stream]:
    """CUDA streams, the same ones at every call: a capture needs those it was warmed up on."""
    return [torch.cuda.Stream() for _ in range(count)]


def step_replicas_on_streams(
    step: Step, learners: Learner, replica_draws: Draw, views: TaskViews
) -> StepResult:
    """One replica after the other, each on its own CUDA stream. In a captured CUDA graph they are
    branches that the GPU runs at the same time."""
    main_stream, results = torch.cuda.current_stream(), []
    streams = cuda_streams(len(learners.params))
    for r, stream in enumerate(streams):
        stream.wait_stream(main_stream)
        with torch.cuda.stream(stream):
            results.append(
                step(tree_index(learners, r), tree_index(replica_draws, r), tree_index(views, r))
            )
    for stream in streams:
        main_stream.wait_stream(stream)
    stacked: StepResult = tree_stack(results)
    return stacked


def step_replicas_by_vmap(
    step: Step, learners: Learner, replica_draws: Draw, views: TaskViews
) -> StepResult:
    """All replicas in one batched step."""
    result: StepResult = torch.func.vmap(step)(learners, replica_draws, views)
    return result


def call_batched_step(
    batched_step: Step, learners: Learner, replica_draws: Draw, views: TaskViews
) -> StepResult:
    """All replicas, by a step that already takes learners, draws and views [R, ...]."""
    return batched_step(learners, replica_draws, views)


def make_plain_run(step_replicas: StepReplicas) -> RunSteps:
    """`Engine.run_steps` as a Python loop over steps, with nothing captured or recorded."""

    def run_steps(
        step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
    ) -> tuple[Learner, Trace]:
        traces = []
        for s in range(len(draws.rows)):
            step = step_cycle[s % len(step_cycle)]
            learners, trace = step_replicas(step, learners, tree_index(draws, s), views)
            traces.append(trace)
        return learners, stack_traces(traces)

    return run_steps
