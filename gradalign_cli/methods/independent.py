"""Independent: a network for each task, which no other task disturbs or helps (GEM, sec. 5)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient


class Networks(NamedTuple):
    """first: [P] as every task starts;  learned: [T, P] as the ended tasks left theirs;  ended:
    [T] which of them that are."""

    first: Tensor
    learned: Tensor
    ended: Tensor


def independent(inherit: bool) -> Method:
    """Fine-tuning where each task is tested with the network it left behind.

    inherit: a task starts from the last one's network, as in GEM's code, and not from the first.
    Nothing is divided: to compare networks of equal size in all, make the model smaller.
    """

    def init(setting: MethodSetup) -> Networks:
        params, tasks = setting.params, setting.tasks
        ended = torch.zeros(tasks, dtype=torch.bool, device=params.device)
        return Networks(params, params.new_zeros(tasks, len(params)), ended)

    def end_task(state: Networks, params: Tensor, probe: Probe) -> Networks:
        now = int(state.ended.sum())
        learned, ended = state.learned.clone(), state.ended.clone()
        learned[now], ended[now] = params, True
        return state._replace(learned=learned, ended=ended)

    def restart(state: Networks, params: Tensor) -> Tensor:
        return params if inherit else state.first

    def tested(state: Networks, params: Tensor, task: int, layers: Any) -> Tensor:
        return torch.where(state.ended[task], state.learned[task], params)

    return Method(
        keep_gradient, init=init, end_task=end_task, next_task_params=restart, test_params=tested
    )
