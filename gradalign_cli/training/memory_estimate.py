"""How many replicas fit into memory at once."""

import math
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.buffers.measures import GRADIENTS_AT_ONCE
from gradalign_cli.errors import require
from gradalign_cli.numerics.trees import tree_leaves
from gradalign_cli.schedules.schedule import looks_at_losses
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.reading_sizes import reference_cache_bytes
from gradalign_cli.step.reference_examples import caches_reference_examples
from gradalign_cli.training.free_memory import free_bytes
from gradalign_cli.training.replica import Replica, method_setup, new_learner

SHARE = 0.8  # of the free memory that a run may plan with
COPIES = 3  # of a learner and its view: before, after and recorded


def replicas_at_once(
    parts: Parts, replica: Replica, memory_budget_gib: float | None, device: torch.device
) -> int:
    """How many replicas fit into a memory budget in GiB, at least one; without a budget into most
    of what is free. One where a schedule decides for each replica when a task is over.
    """
    require(
        memory_budget_gib is None or memory_budget_gib > 0,
        "memory_budget",
        "positive or null",
        memory_budget_gib,
    )
    if looks_at_losses(parts.schedule):
        return 1
    free = memory_budget_gib * 2**30 if memory_budget_gib else SHARE * free_bytes(device)
    return max(1, math.floor(free / replica_bytes_without_activations(parts, replica)))


def replica_bytes_without_activations(parts: Parts, replica: Replica) -> int:
    """An estimate of what a replica takes: three copies of its learner and view, the images
    prepared for its references, and the gradients of a step. Activations, and what a method stores
    as it goes, are left out.
    """
    tensors = [*tree_leaves(shape_of_learner(parts, replica)), *tree_leaves(replica.stream.view)]
    return (
        COPIES * tensor_bytes(tensors)
        + cached_reference_image_bytes(parts)
        + step_gradient_bytes(parts)
    )


def shape_of_learner(parts: Parts, replica: Replica) -> Learner:
    """An untrained learner whose tensors have shapes and no memory; a real one where the user's own
    method or buffer looks at numbers to make its state."""
    try:
        return learner_on_meta_device(parts, replica)
    except RuntimeError:
        return new_learner(parts, replica)


def learner_on_meta_device(parts: Parts, replica: Replica) -> Learner:
    """An untrained learner on PyTorch's meta device; RuntimeError where that cannot be."""
    with torch.device("meta"):
        params = torch.empty(parameter_count(parts))
        setup = method_setup(parts, params)
        memory = parts.buffer.init()
        logits = parts.benchmark.outputs * parts.method.stores_logits
        return Learner(
            params,
            torch.empty_like(parts.model.initial_statistics, device="meta"),
            parts.optimizer.init(params),
            replica.method.init(setup),
            memory._replace(stored_logits=params.new_zeros(len(memory.rows), logits)),
        )


def tensor_bytes(tree: Any) -> int:
    """Bytes of all tensors of a tree."""
    return sum(
        leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)
    )


def parameter_count(parts: Parts) -> int:
    """The number of parameters of the network."""
    return sum(layer.size for layer in parts.model.layers)


def cached_reference_image_bytes(parts: Parts) -> int:
    """Bytes of the images that are prepared for the references of the last task."""
    last = parts.benchmark.tasks - 1
    return reference_cache_bytes(parts, last) if caches_reference_examples(parts, last) else 0


def step_gradient_bytes(parts: Parts) -> int:
    """Bytes of the gradients of a step, each of them twice, and of those that a buffer measures."""
    gradients = 2 * (1 + parts.method.reference_count(parts.benchmark.tasks - 1))
    if parts.buffer.measures == "cosines":
        gradients += GRADIENTS_AT_ONCE + parts.buffer.measured_examples
    return 4 * gradients * parameter_count(parts)
