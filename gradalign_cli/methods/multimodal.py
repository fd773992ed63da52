"""Multimodal: an input layer for each task, the rest of the network shared (GEM, sec. 5)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.generators import permutation


class InputLayers(NamedTuple):
    """own: [T, F] the first layer of each task, as it starts or as its task left it;  present: []
    the task whose layer the parameters hold."""

    own: Tensor
    present: Tensor


def shuffled(part: Tensor, layer: Layer, task: int) -> Tensor:
    """A layer's part [F] of untrained parameters with its weights in another order, and its biases.

    Both are drawn independently and alike, so that this is a layer drawn for the task.
    """
    source = torch.Generator().manual_seed(task)
    biases = layer.matrix_rows * layer.has_bias
    both = part.split([layer.size - biases, biases])
    orders = [permutation(len(each), source).to(part.device) for each in both]
    return torch.cat([each[order] for each, order in zip(both, orders, strict=True)])


def multimodal() -> Method:
    """Fine-tuning where every task has the first layer of the network for itself.

    A task's layer waits as it was drawn until the task comes, and rests when it has ended; what
    follows it is trained by all tasks in turn. A task is tested through its own layer.
    """

    def init(setting: MethodSetup) -> InputLayers:
        layer = setting.layers[0]
        first = setting.params[: layer.size]
        others = [shuffled(first, layer, task) for task in range(1, setting.tasks)]
        return InputLayers(torch.stack([first, *others]), first.new_zeros(()))

    def through(state: InputLayers, params: Tensor, task: int) -> Tensor:
        return torch.cat([state.own[task], params[state.own.shape[1] :]])

    def end_task(state: InputLayers, params: Tensor, probe: Probe) -> InputLayers:
        own = state.own.clone()
        own[probe.task] = params[: own.shape[1]]
        return InputLayers(own, state.present + 1)

    def restart(state: InputLayers, params: Tensor) -> Tensor:
        return through(state, params, min(int(state.present), len(state.own) - 1))

    def tested(state: InputLayers, params: Tensor, task: int, layers: tuple[Layer, ...]) -> Tensor:
        return torch.where(state.present == task, params, through(state, params, task))

    return Method(
        keep_gradient, init=init, end_task=end_task, next_task_params=restart, test_params=tested
    )
