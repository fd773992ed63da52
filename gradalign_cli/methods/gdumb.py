"""GDumb: train on the memory alone, when a test comes (Prabhu et al. 2020)."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, Probe, Setting


class GDumbState(NamedTuple):
    """first: [P] as training starts;  learned: [P] as the last training on the memory left it."""

    first: Tensor
    learned: Tensor


def gdumb(passes: int, batch: int, lr: float, least_lr: float) -> Method:
    """When a task has ended, a network is trained from its start on the memory alone, by SGD over
    `passes` with batches of `batch` and a step size that falls from lr to least_lr as half a
    cosine; tests are its answers. A balance to compare others with: it needs no stream.

    The paper's sampler is greedy and balanced: `buffer=balanced_reservoir`. Its augmentation by
    cutmix is left out.
    """
    require(passes > 0, "method.passes", "positive", passes)
    require(batch > 0, "method.batch", "positive", batch)
    require(0 <= least_lr <= lr, "method.least_lr", "in [0, method.lr]", least_lr)

    def init(setting: Setting) -> GDumbState:
        return GDumbState(setting.params, setting.params.clone())

    def stay(gradients: Gradients, state: GDumbState) -> tuple[Tensor, GDumbState]:
        return torch.zeros_like(gradients.g), state

    def end_task(state: GDumbState, params: Tensor, probe: Probe) -> GDumbState:
        params, held = state.first, probe.held
        source = torch.Generator().manual_seed(probe.task)
        batches = -(-len(held) // batch)
        for number in range(passes):
            order = held[torch.randperm(len(held), generator=source).to(held.device)]
            for place, part in enumerate(order.split(batch)):
                done = (number + place / batches) / passes
                step = least_lr + (lr - least_lr) * (1 + math.cos(math.pi * done)) / 2
                params = params - step * probe.memory_gradient(params, part)
        return state._replace(learned=params)

    def tested(state: GDumbState, params: Tensor, task: int, layers: Any) -> Tensor:
        return state.learned

    return Method(stay, init=init, end_task=end_task, tested=tested)
