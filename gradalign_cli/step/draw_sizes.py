"""How many random numbers a step needs."""

from typing import NamedTuple

from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import reference_and_replay_sizes


class DrawSizes(NamedTuple):
    """How many uniform numbers each field of a `Draw` holds;  insert_uniform: for each arrival;
    noise_keys: keys for the examples read from memory, None where the network has no noise;
    augment_uniform: for each example that the network sees;  examples_read: from memory."""

    reference_uniform: int
    replay_uniform: tuple[int, int]
    align_uniform: int
    measure_uniform: int = 0
    insert_uniform: int = 1
    noise_keys: int | None = None
    augment_uniform: int = 0
    examples_read: int = 0


def draw_sizes(parts: Parts, past_tasks: int) -> DrawSizes:
    """The random numbers that a step draws while `past_tasks` tasks are over."""
    reference_size, replay_size = reference_and_replay_sizes(parts, past_tasks)
    method, slots = parts.method, len(parts.buffer.task_slots.unique())
    examples_read = reference_size * (past_tasks if method.references == "per_task" else 1)
    examples_read += replay_size * method.memory_batches
    needs_numbers = method.needs_random_numbers or method.references == "one_task"
    return DrawSizes(
        reference_uniform=slots if reference_size else 0,
        replay_uniform=(method.memory_batches, slots if replay_size else 0),
        align_uniform=(parts.benchmark.tasks + 1) ** 2 if needs_numbers else 0,
        measure_uniform=slots if parts.buffer.measured_examples else 0,
        insert_uniform=parts.buffer.uniforms_per_arrival,
        noise_keys=examples_read if parts.model.needs_noise else None,
        augment_uniform=parts.augmentation.uniforms_per_image if parts.augmentation else 0,
        examples_read=examples_read,
    )
