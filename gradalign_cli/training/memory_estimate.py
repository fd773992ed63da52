"""How many replicas fit into memory at once."""

import math
import os

import torch

from gradalign_cli.buffers.measures import GRADIENTS_AT_ONCE
from gradalign_cli.errors import require
from gradalign_cli.numerics.trees import tree_leaves
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import reference_cache_bytes
from gradalign_cli.step.reference_examples import keeps_reference_cache
from gradalign_cli.training.replica import Replica, new_learner

SHARE = 0.8  # of the free memory that a run may plan with


def replicas_at_once(
    parts: Parts, replica: Replica, memory_budget: float | None, device: torch.device
) -> int:
    """How many replicas fit into a memory budget in GiB, at least one; without a budget into most
    of what is free. One where a schedule decides for each replica when a task is over.
    """
    require(
        memory_budget is None or memory_budget > 0,
        "memory_budget",
        "positive or null",
        memory_budget,
    )
    if parts.schedule:
        return 1
    free = memory_budget * 2**30 if memory_budget else SHARE * free_bytes(device)
    return max(1, math.floor(free / replica_bytes(parts, replica, device)))


def replica_bytes(parts: Parts, replica: Replica, device: torch.device) -> int:
    """An estimate of what a replica takes: three copies of its learner and view (before, after and
    recorded), the images prepared for its references, and the gradients of a step. Activations, and
    what a method stores as it goes, are left out.
    """
    learner = new_learner(parts, replica, device)
    tensors = [*tree_leaves(learner), *tree_leaves(replica.stream.view)]
    learner_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    last = parts.benchmark.tasks - 1
    cached = keeps_reference_cache(parts, last)
    cache_bytes = reference_cache_bytes(parts, last) if cached else 0
    gradients = 2 * (1 + parts.method.reference_count(last))
    if parts.buffer.measures == "cosines":
        gradients += GRADIENTS_AT_ONCE + parts.buffer.measured_examples
    gradient_bytes = 4 * sum(layer.size for layer in parts.model.layers)
    return 3 * learner_bytes + cache_bytes + gradients * gradient_bytes


def free_bytes(device: torch.device) -> int:
    """Memory of the device that nobody uses."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
