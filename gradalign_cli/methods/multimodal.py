"""Multimodal: an input layer for each task, the rest of the network shared (GEM, sec. 5)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.generators import permutation


class MultimodalState(NamedTuple):
    """input_layer_of_task: [T, F] the first layer of each task, trained if the task has ended, else
    initial;  current_task: [] the task whose first layer is in the parameters."""

    input_layer_of_task: Tensor
    current_task: Tensor


def shuffle_input_layer(initial_input_layer: Tensor, layer: Layer, task: int) -> Tensor:
    """An initial first layer [F] for a task: the weights of the network's initial first layer [F]
    in a random order, and its biases in a random order.

    The initial weights are independent and identically distributed, and so are the biases, so this
    has the distribution of a newly drawn layer.
    """
    generator = torch.Generator().manual_seed(task)
    biases = layer.matrix_rows * layer.has_bias
    parts = initial_input_layer.split([layer.size - biases, biases])
    orders = [permutation(len(part), generator).to(part.device) for part in parts]
    return torch.cat([part[order] for part, order in zip(parts, orders, strict=True)])


def params_with_input_layer(state: MultimodalState, params: Tensor, task: int) -> Tensor:
    """The parameters [P] with the stored first layer of a task in place of their own."""
    return torch.cat(
        [state.input_layer_of_task[task], params[state.input_layer_of_task.shape[1] :]]
    )


def multimodal() -> Method:
    """Fine-tuning where each task has its own first layer; all later layers are shared.

    A task's first layer is trained during that task only. Each task is tested with its own first
    layer.
    """

    def init(setup: MethodSetup) -> MultimodalState:
        layer = setup.layers[0]
        initial_layer = setup.params[: layer.size]
        shuffled_layers = [
            shuffle_input_layer(initial_layer, layer, task) for task in range(1, setup.tasks)
        ]
        return MultimodalState(
            torch.stack([initial_layer, *shuffled_layers]), initial_layer.new_zeros(())
        )

    def end_task(state: MultimodalState, params: Tensor, probe: Probe) -> MultimodalState:
        input_layer_of_task = state.input_layer_of_task.clone()
        input_layer_of_task[probe.task] = params[: input_layer_of_task.shape[1]]
        return MultimodalState(input_layer_of_task, state.current_task + 1)

    def next_task_params(state: MultimodalState, params: Tensor) -> Tensor:
        task = min(int(state.current_task), len(state.input_layer_of_task) - 1)
        return params_with_input_layer(state, params, task)

    def test_params(
        state: MultimodalState, params: Tensor, task: int, layers: tuple[Layer, ...]
    ) -> Tensor:
        stored = params_with_input_layer(state, params, task)
        return torch.where(state.current_task == task, params, stored)

    return Method(
        keep_gradient,
        init=init,
        end_task=end_task,
        next_task_params=next_task_params,
        test_params=test_params,
    )
