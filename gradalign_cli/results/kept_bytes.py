"""What a trained replica keeps of earlier tasks."""

from gradalign_cli.benchmarks.benchmark import Benchmark
from gradalign_cli.step.learner import Learner
from gradalign_cli.training.memory_estimate import tensor_bytes


def stored_examples(learners: Learner) -> list[int]:
    """How many examples each replica has in memory;  learners: [R, ...]."""
    counts: list[int] = (learners.memory.rows >= 0).sum(1).tolist()
    return counts


def kept_bytes(learners: Learner, benchmark: Benchmark) -> float:
    """The bytes that a replica keeps of earlier tasks beside its network, as a mean over the
    replicas: the images in its memory, all that the memory stores with them, and the method's
    state.

    learners: [R, ...].
    """
    image_bytes = benchmark.images[0].numel() * benchmark.images.element_size()
    state_bytes = tensor_bytes([learners.memory, learners.method_state])
    return (sum(stored_examples(learners)) * image_bytes + state_bytes) / len(learners.params)
