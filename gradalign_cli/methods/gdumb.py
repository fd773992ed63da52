"""GDumb: train on the memory alone, when a test comes (Prabhu et al. 2020)."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.numerics.generators import permutation


class GDumbState(NamedTuple):
    """first: [P] as training starts;  learned: [P] as the last training on the memory left it;
    step, least_step: []."""

    first: Tensor
    learned: Tensor
    step: Tensor
    least_step: Tensor


def gdumb(passes: int, batch: int, step: float, least_step: float) -> Method:
    """When a task has ended, a network is trained from its start on the memory alone, by SGD over
    `passes` with batches of `batch` and a step size that falls from step to least_step as
    half a cosine; tests are its answers. A balance to compare others with: it needs no stream.

    The paper's sampler is greedy and balanced, and the yaml brings a balanced reservoir. Its
    augmentation by cutmix is left out.
    """
    require(passes > 0, "method.passes", "positive", passes)
    require(batch > 0, "method.batch", "positive", batch)
    require(0 <= least_step <= step, "method.least_step", "in [0, method.step]", least_step)

    def init(setting: MethodSetup) -> GDumbState:
        number = setting.params.new_tensor
        return GDumbState(setting.params, setting.params.clone(), number(step), number(least_step))

    def stay(gradients: Gradients, state: GDumbState) -> tuple[Tensor, GDumbState]:
        return torch.zeros_like(gradients.g), state

    def end_task(state: GDumbState, params: Tensor, probe: Probe) -> GDumbState:
        params, held, span = state.first, probe.filled_slots, state.step - state.least_step
        source = torch.Generator().manual_seed(probe.task)
        batches = -(-len(held) // batch)
        for number in range(passes):
            order = held[permutation(len(held), source).to(held.device)]
            for place, part in enumerate(order.split(batch)):
                done = (number + place / batches) / passes
                size = state.least_step + span * (1 + math.cos(math.pi * done)) / 2
                params = params - size * probe.memory_gradient(params, part)
        return state._replace(learned=params)

    def tested(state: GDumbState, params: Tensor, task: int, layers: Any) -> Tensor:
        return state.learned

    return Method(stay, init=init, end_task=end_task, test_params=tested)
