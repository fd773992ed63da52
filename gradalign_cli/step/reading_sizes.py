"""How many stored examples a step reads, and from which slots of the memory."""

import math

from torch import Tensor

from gradalign_cli.step.learner import Parts


def tasks_in_memory(parts: Parts, past_tasks: int) -> int:
    """Of how many tasks the memory may hold examples while `past_tasks` tasks are over."""
    sharp = parts.benchmark.boundaries == "sharp"
    return past_tasks + 1 if sharp else parts.benchmark.tasks


def reference_and_replay_sizes(parts: Parts, past_tasks: int) -> tuple[int, int]:
    """How many examples a reference gradient and a replayed batch read while `past_tasks` tasks are
    over."""
    slots = parts.buffer.task_slots
    per_reference = {
        "nothing": 0,
        "pooled": len(slots[:past_tasks].unique()),
        "one_task": slots.shape[1],
        "per_task": slots.shape[1],
    }[parts.method.references]
    replay = (
        len(slots[: tasks_in_memory(parts, past_tasks)].unique())
        if parts.method.memory_batches
        else 0
    )
    limit = parts.memory_batch_size or max(per_reference, replay)
    return min(per_reference, limit) if past_tasks else 0, min(replay, limit)


def measured_example_count(parts: Parts, past_tasks: int) -> int:
    """How many stored examples the buffer measures in a step while `past_tasks` tasks are over."""
    slots = parts.buffer.task_slots[: tasks_in_memory(parts, past_tasks)]
    return min(parts.buffer.measured_examples, len(slots.unique()))


def reference_slot_indices(parts: Parts, past_tasks: int) -> Tensor:
    """The slots [M, K] that each of M references reads from while `past_tasks` tasks are over."""
    slots = parts.buffer.task_slots[:past_tasks]
    return slots if parts.method.references == "per_task" else slots.unique()[None]


def usable_slot_indices(parts: Parts, past_tasks: int) -> Tensor:
    """The slots [1, K] that may hold an example of any task while `past_tasks` tasks are over."""
    slots: Tensor = parts.buffer.task_slots[: tasks_in_memory(parts, past_tasks)].unique()
    return slots[None]


def reference_cache_bytes(parts: Parts, past_tasks: int) -> int:
    """Bytes of all images [float32] that references may read while `past_tasks` tasks are over."""
    slots = reference_slot_indices(parts, past_tasks)
    return 4 * slots.numel() * math.prod(parts.benchmark.image_shape)


def examples_of_step(parts: Parts, past_tasks: int, batch_size: int) -> int:
    """How many examples go through the network in a step while `past_tasks` tasks are over: the
    batch, those read from the memory and those that the buffer measures."""
    reference, replay = reference_and_replay_sizes(parts, past_tasks)
    measures = parts.buffer.measured_examples > 0
    measured = batch_size + measured_example_count(parts, past_tasks) if measures else 0
    references = parts.method.reference_count(past_tasks) * reference
    return batch_size + references + parts.method.memory_batches * replay + measured


def backward_passes(parts: Parts, past_tasks: int, batch_size: int) -> int:
    """How many backward passes a step on a batch takes while `past_tasks` tasks are over: for the
    method's gradients, for its references, and one for each example whose gradient the buffer
    measures."""
    _, replay = reference_and_replay_sizes(parts, past_tasks)
    passes = parts.method.gradient_count(batch_size, replay)
    passes += parts.method.reference_count(past_tasks)
    if parts.buffer.measures == "cosines":
        passes += batch_size + measured_example_count(parts, past_tasks)
    return passes
