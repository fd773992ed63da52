"""GDumb: train from scratch on the memory alone, before a test (Prabhu et al. 2020)."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.numerics.generators import permutation


class GDumbState(NamedTuple):
    """initial_params: [P] that each training on the memory starts from;  memory_params: [P] result
    of the last training on the memory;  lr, least_lr: [] hyper-parameters."""

    initial_params: Tensor
    memory_params: Tensor
    lr: Tensor
    least_lr: Tensor


def gdumb(passes: int, batch_size: int, lr: float, least_lr: float) -> Method:
    """When a task has ended, a network is trained from the initial parameters on the memory alone;
    tests use this network. The stream only fills the memory. A baseline for other methods.

    passes, batch_size: passes over the memory and the batch size of this training, which is by SGD.
    lr, least_lr: its step size falls from lr to least_lr as half a cosine.

    The paper's sampler is greedy and balanced; the method's yaml selects a balanced reservoir. The
    paper's CutMix augmentation is left out.
    """
    require(passes > 0, "method.passes", "positive", passes)
    require(batch_size > 0, "method.batch_size", "positive", batch_size)
    require(0 <= least_lr <= lr, "method.least_lr", "in [0, method.lr]", least_lr)

    def init(setup: MethodSetup) -> GDumbState:
        number = setup.params.new_tensor
        return GDumbState(setup.params, setup.params.clone(), number(lr), number(least_lr))

    def align(gradients: Gradients, state: GDumbState) -> tuple[Tensor, GDumbState]:
        return torch.zeros_like(gradients.g), state

    def end_task(state: GDumbState, params: Tensor, probe: Probe) -> GDumbState:
        params, slots = state.initial_params, probe.filled_slot_indices
        lr_range = state.lr - state.least_lr
        generator = torch.Generator().manual_seed(probe.task)
        batches = -(-len(slots) // batch_size)
        for number in range(passes):
            shuffled_slots = slots[permutation(len(slots), generator).to(slots.device)]
            for position, batch_slots in enumerate(shuffled_slots.split(batch_size)):
                progress = (number + position / batches) / passes
                step_size = state.least_lr + lr_range * (1 + math.cos(math.pi * progress)) / 2
                params = params - step_size * probe.memory_gradient(params, batch_slots)
        return state._replace(memory_params=params)

    def test_params(state: GDumbState, params: Tensor, task: int, layers: Any) -> Tensor:
        return state.memory_params

    return Method(
        align,
        init=init,
        end_task=end_task,
        test_params=test_params,
        claims=("does_not_lengthen", "acts_without_memory"),
    )
