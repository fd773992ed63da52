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
    of the last training on the memory;  step, least_step: [] hyper-parameters."""

    initial_params: Tensor
    memory_params: Tensor
    step: Tensor
    least_step: Tensor


def gdumb(passes: int, batch: int, step: float, least_step: float) -> Method:
    """When a task has ended, a network is trained from the initial parameters on the memory alone;
    tests use this network. The stream only fills the memory. A baseline for other methods.

    passes, batch: passes over the memory and the batch size of this training, which is by SGD.
    step, least_step: its step size falls from step to least_step as half a cosine.

    The paper's sampler is greedy and balanced; the method's yaml selects a balanced reservoir. The
    paper's CutMix augmentation is left out.
    """
    require(passes > 0, "method.passes", "positive", passes)
    require(batch > 0, "method.batch", "positive", batch)
    require(0 <= least_step <= step, "method.least_step", "in [0, method.step]", least_step)

    def init(setup: MethodSetup) -> GDumbState:
        number = setup.params.new_tensor
        return GDumbState(setup.params, setup.params.clone(), number(step), number(least_step))

    def align(gradients: Gradients, state: GDumbState) -> tuple[Tensor, GDumbState]:
        return torch.zeros_like(gradients.g), state

    def end_task(state: GDumbState, params: Tensor, probe: Probe) -> GDumbState:
        params, slots = state.initial_params, probe.filled_slots
        step_range = state.step - state.least_step
        generator = torch.Generator().manual_seed(probe.task)
        batches = -(-len(slots) // batch)
        for number in range(passes):
            shuffled_slots = slots[permutation(len(slots), generator).to(slots.device)]
            for position, batch_slots in enumerate(shuffled_slots.split(batch)):
                progress = (number + position / batches) / passes
                step_size = state.least_step + step_range * (1 + math.cos(math.pi * progress)) / 2
                params = params - step_size * probe.memory_gradient(params, batch_slots)
        return state._replace(memory_params=params)

    def test_params(state: GDumbState, params: Tensor, task: int, layers: Any) -> Tensor:
        return state.memory_params

    return Method(align, init=init, end_task=end_task, test_params=test_params)
