"""The steps of one task: which step functions take them, and the draws they are taken with."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradalign_cli.engines.engine import Engine
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import Draw, draw_chunks, pass_orders
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.step import Step, make_step
from gradalign_cli.training.plan import TrainingPlan, chunk_size
from gradalign_cli.training.replica import Replica


class TaskSteps(NamedTuple):
    """past_tasks: how many tasks the memory counts as over.
    step_cycle: step functions, taken in turn from the start of the task.
    draw_chunks: the draws [steps, R, ...] of each chunk.
    steps_per_pass, steps: of a pass over the task, and of the whole task.
    """

    past_tasks: int
    step_cycle: list[Step]
    draw_chunks: Iterator[Draw]
    steps_per_pass: int
    steps: int


def prepare_task(
    parts: Parts, replicas: Sequence[Replica], engine: Engine, plan: TrainingPlan, task: int
) -> TaskSteps:
    """The steps of task number `task` for replicas with equally large tasks."""
    bounded = parts.benchmark.boundaries != "none"
    # without boundaries every task counts as over, so that nothing in memory is left out
    past_tasks = task if bounded else parts.benchmark.tasks
    measured, plain = (
        make_step(parts, past_tasks, engine.make_gradient_function, m) for m in (True, False)
    )
    orders = [
        pass_orders(r.stream, r.seed, task, plan.passes, parts.method.shuffles_tasks_together)
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
    cycle_length = min(plan.measure_angles_every, sum(steps))
    step_cycle = [measured] + [plain] * (cycle_length - 1)
    return TaskSteps(past_tasks, step_cycle, chunks, steps[0], sum(steps))


def steps_of_tasks(parts: Parts, replica: Replica, plan: TrainingPlan) -> list[int]:
    """How many steps each task of a replica has, if no pass is left out."""
    sizes, passes = [len(rows) for rows in replica.stream.train_rows], plan.passes
    if parts.method.shuffles_tasks_together:
        # all passes are dealt out to the tasks, as one pass over each
        (share, rest), passes = divmod(passes * sum(sizes), len(sizes)), 1
        sizes = [share + (task < rest) for task in range(len(sizes))]
    return [passes * -(-size // plan.batch_size) for size in sizes]
