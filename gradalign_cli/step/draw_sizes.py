"""How many random numbers a step needs."""

from typing import NamedTuple

from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import reference_and_replay_sizes


class DrawSizes(NamedTuple):
    """How many uniform numbers each field of a `Draw` holds;  replay_uniform_shape: of memory
    batches and slots;  memory_noise_key_count: keys for the examples read from memory, None where
    the network has no noise;  uniforms_per_image: for each example that the network sees;
    memory_examples: how many are read from memory."""

    reference_uniforms: int
    replay_uniform_shape: tuple[int, int]
    align_uniforms: int
    buffer_measure_uniforms: int = 0
    uniforms_per_arrival: int = 1
    memory_noise_key_count: int | None = None
    uniforms_per_image: int = 0
    memory_examples: int = 0


def draw_sizes(parts: Parts, past_tasks: int) -> DrawSizes:
    """The random numbers that a step draws while `past_tasks` tasks are over."""
    reference_size, replay_size = reference_and_replay_sizes(parts, past_tasks)
    method, slots = parts.method, len(parts.buffer.task_slots.unique())
    memory_examples = reference_size * (past_tasks if method.references == "per_task" else 1)
    memory_examples += replay_size * method.memory_batches
    needs_numbers = method.needs_random_numbers or method.references == "one_task"
    return DrawSizes(
        reference_uniforms=slots if reference_size else 0,
        replay_uniform_shape=(method.memory_batches, slots if replay_size else 0),
        align_uniforms=(parts.benchmark.tasks + 1) ** 2 if needs_numbers else 0,
        buffer_measure_uniforms=slots if parts.buffer.measured_examples else 0,
        uniforms_per_arrival=parts.buffer.uniforms_per_arrival,
        memory_noise_key_count=memory_examples if parts.model.needs_noise else None,
        uniforms_per_image=parts.augmentation.uniforms_per_image if parts.augmentation else 0,
        memory_examples=memory_examples,
    )
