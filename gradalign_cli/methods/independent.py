"""Independent: one network for each task, without transfer or interference (GEM, sec. 5)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient


class IndependentState(NamedTuple):
    """initial_params: [P];  task_params: [T, P] the parameters at the end of each task;
    task_has_ended: [T] which tasks have ended and have their parameters in task_params."""

    initial_params: Tensor
    task_params: Tensor
    task_has_ended: Tensor


def independent(inherit: bool) -> Method:
    """Fine-tuning where each task is tested with the parameters from the end of its training.

    inherit: whether a task starts from the parameters of the task before, as in GEM's code, or from
    the initial ones. Each task has a network of full size; to compare methods at equal total size,
    choose a smaller model.
    """

    def init(setup: MethodSetup) -> IndependentState:
        params, tasks = setup.params, setup.tasks
        task_has_ended = torch.zeros(tasks, dtype=torch.bool, device=params.device)
        return IndependentState(params, params.new_zeros(tasks, len(params)), task_has_ended)

    def end_task(state: IndependentState, params: Tensor, probe: Probe) -> IndependentState:
        task = int(state.task_has_ended.sum())
        task_params, task_has_ended = state.task_params.clone(), state.task_has_ended.clone()
        task_params[task], task_has_ended[task] = params, True
        return state._replace(task_params=task_params, task_has_ended=task_has_ended)

    def next_task_params(state: IndependentState, params: Tensor) -> Tensor:
        return params if inherit else state.initial_params

    def test_params(state: IndependentState, params: Tensor, task: int, layers: Any) -> Tensor:
        return torch.where(state.task_has_ended[task], state.task_params[task], params)

    return Method(
        keep_gradient,
        init=init,
        end_task=end_task,
        next_task_params=next_task_params,
        test_params=test_params,
    )
