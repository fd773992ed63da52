"""The contract of a buffer: what its memory holds, then runs with it."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import Memory
from gradalign_cli.contract.findings import Rule, UnaskedRuleError, expect
from gradalign_cli.contract.run_rules import run_rules
from gradalign_cli.contract.small_runs import (
    SMALL,
    BuildBuffer,
    PartFactories,
    learner_after_task,
    make_parts,
    make_replicas,
    steps_of_task,
)
from gradalign_cli.methods.derpp import derpp
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.replica import new_learner

SLOT_FIELDS = ("rows", "tasks", "class_in_task")


def buffer_rules(build: BuildBuffer) -> list[Rule]:
    """The rules of a buffer's contract;  build: (tasks, classes per task) -> the buffer, new."""
    part_factories = SMALL._replace(buffer=build, method=lambda: derpp(0.1, 0.5))
    return [
        Rule(
            "an empty memory has -1 in all slots",
            lambda: check_initial_memory(part_factories),
            is_prerequisite=True,
        ),
        Rule(
            "each slot belongs to some task",
            lambda: check_task_slots_form(part_factories),
            is_prerequisite=True,
        ),
        Rule(
            "what is stored has come, with its task and class, in a slot of its task",
            lambda: check_stored_examples(part_factories),
        ),
        Rule("a full stream stores something", lambda: check_memory_not_empty(part_factories)),
        Rule(
            "the examples of ended tasks stay, where `keeps_ended_tasks` says so",
            lambda: check_ended_tasks_stay(part_factories),
        ),
        *run_rules(part_factories),
    ]


def check_initial_memory(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a new memory is not empty or not of whole numbers."""
    memory = make_parts(part_factories).buffer.init()
    for name in SLOT_FIELDS:
        field = getattr(memory, name)
        expect(
            field.dtype == torch.long and field.ndim == 1 and bool((field == -1).all()),
            f"`init` must give {name} [capacity] of whole numbers (int64) that are all -1, found "
            f"{field.dtype} {list(field.shape)}: start from empty_memory of buffers/buffer.py",
        )


def check_task_slots_form(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where `task_slots` is no table of slots for each task."""
    parts = make_parts(part_factories)
    slots, capacity = parts.buffer.task_slots, len(parts.buffer.init().rows)
    expect(
        slots.ndim == 2
        and len(slots) == parts.benchmark.tasks
        and bool(((slots >= 0) & (slots < capacity)).all()),
        f"`task_slots` must be a table [{parts.benchmark.tasks}, K] of slots below {capacity}, "
        f"found {list(slots.shape)}; torch.arange(capacity).expand(tasks, -1) shares all of them",
    )


class MemoryAfterStep(NamedTuple):
    """A memory in the course of a task, and the rows [n] that have come so far."""

    parts: Parts
    task: int
    arrived_rows: Tensor
    memory: Memory


def memories_after_steps(part_factories: PartFactories) -> Iterator[MemoryAfterStep]:
    """The memory after each step of each task, and after its end."""
    parts = make_parts(part_factories)
    replica = make_replicas(parts, (0,))[0]
    learner, rows = new_learner(parts, replica), torch.zeros(0, dtype=torch.long)
    for task in range(parts.benchmark.tasks):
        for step in steps_of_task(parts, replica, learner, task):
            rows = torch.cat([rows, step.draw.rows])
            yield MemoryAfterStep(parts, task, rows, step.after.memory)
        learner = learner_after_task(parts, replica, learner, task)
        yield MemoryAfterStep(parts, task, rows, learner.memory)


def check_stored_examples(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a slot holds what never came or is another's."""
    for parts, task, rows, memory in memories_after_steps(part_factories):
        view = parts.benchmark.make_stream(0).view
        train_rows = parts.benchmark.make_stream(0).train_rows
        for slot in (memory.rows >= 0).nonzero()[:, 0].tolist():
            row, stored_task = int(memory.rows[slot]), int(memory.tasks[slot])
            where = f"slot {slot} holds row {row} of task {stored_task} during task {task}"
            expect(bool((rows == row).any()), f"{where}, which has not come: write Arrivals.rows")
            is_of_task = 0 <= stored_task <= task and bool((train_rows[stored_task] == row).any())
            expect(is_of_task, f"{where}, and is not of that task: write Arrivals.tasks beside it")
            position = int(view.class_in_task[parts.benchmark.labels[row]])
            expect(
                int(memory.class_in_task[slot]) == position,
                f"{where} as class {int(memory.class_in_task[slot])} of its task, and is of class "
                f"{position}: write all fields by one call of write_to_slots",
            )
            expect(
                bool((parts.buffer.task_slots[stored_task] == slot).any()),
                f"{where}, and `task_slots` does not list the slot for this task",
            )


def check_memory_not_empty(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where nothing is stored after a task."""
    *_, last = memories_after_steps(part_factories)
    expect(bool((last.memory.rows >= 0).any()), "the memory is still empty after three tasks")


def check_ended_tasks_stay(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a later task replaces an example of an ended one."""
    parts = make_parts(part_factories)
    if not parts.buffer.keeps_ended_tasks:
        raise UnaskedRuleError("it does not say so")
    replica = make_replicas(parts, (0,))[0]
    learner = learner_after_task(parts, replica, new_learner(parts, replica), 0)
    ended = learner.memory.tasks == 0
    for step in steps_of_task(parts, replica, learner, 1):
        expect(
            torch.equal(step.after.memory.rows[ended], learner.memory.rows[ended]),
            "a later task replaces an example of an ended one: leave `keeps_ended_tasks` out",
        )
