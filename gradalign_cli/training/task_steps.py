"""The steps of one task: which step functions take them, and the draws they are taken with."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradalign_cli.engines.engine import Engine
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import Draw, draw_chunks, pass_orders
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.step import Step, make_step
from gradalign_cli.training.plan import Plan, chunk_size
from gradalign_cli.training.replica import Replica


class TaskSteps(NamedTuple):
    """past_tasks: how many tasks the memory counts as over.
    cycle: step functions, taken in turn from the start of each chunk.
    chunks: the draws [steps, R, ...].
    per_pass, total: how many steps a pass and the whole task have.
    """

    past_tasks: int
    cycle: list[Step]
    chunks: Iterator[Draw]
    per_pass: int
    total: int


def task_steps(
    parts: Parts, replicas: Sequence[Replica], engine: Engine, plan: Plan, task: int
) -> TaskSteps:
    """The steps of task number `task` for replicas with equally large tasks."""
    bounded = parts.benchmark.boundaries != "none"
    past_tasks = (
        task if bounded else parts.benchmark.tasks
    )  # without boundaries no task is left out
    measured, plain = (make_step(parts, past_tasks, engine.gradient, m) for m in (True, False))
    orders = [
        pass_orders(r.stream, r.seed, task, plan.passes, parts.method.shuffles_tasks)
        for r in replicas
    ]
    chunks = draw_chunks(
        orders,
        [replica.seed for replica in replicas],
        [replica.lr for replica in replicas],
        task,
        plan.batch_size,
        draw_sizes(parts, past_tasks),
        plan.lca_batches,
        chunk_size(plan, parts.model, engine.device),
    )
    steps = [-(-len(rows) // plan.batch_size) for rows, _ in orders[0]]
    cycle = [measured] + [plain] * (plan.alignment_every - 1)
    return TaskSteps(past_tasks, cycle, chunks, steps[0], sum(steps))
