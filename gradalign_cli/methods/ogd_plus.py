"""OGD+: OGD whose stored gradients follow the weights (Abbana Bennani et al. 2020)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe
from gradalign_cli.methods.ogd import of_label, off, orthonormal


class OGDPlusState(NamedTuple):
    """basis: [T * per_task, P] orthonormal rows, zero where none is;  rows, tasks: [T * per_task]
    of the examples kept, -1 where none is yet."""

    basis: Tensor
    rows: Tensor
    tasks: Tensor


def ogd_plus(per_task: int) -> Method:
    """g less its part in the span of the gradients of right logits on examples of old tasks, all of
    them taken anew when a task has ended (arXiv 2006.11942, alg. 1).

    per_task: examples kept of each task.
    """
    require(per_task > 0, "method.per_task", "positive", per_task)

    def init(setting: MethodSetup) -> OGDPlusState:
        count, params = setting.tasks * per_task, setting.params
        empty = torch.full((count,), -1, device=params.device)
        return OGDPlusState(params.new_zeros(count, len(params)), empty, empty.clone())

    def end_task(state: OGDPlusState, params: Tensor, probe: Probe) -> OGDPlusState:
        new = probe.rows[:per_task]
        rows, tasks = state.rows.clone(), state.tasks.clone()
        place = slice(probe.task * per_task, probe.task * per_task + len(new))
        rows[place], tasks[place] = new, probe.task
        kept = rows >= 0
        found = orthonormal(
            probe.sample_gradients(of_label, rows[kept], tasks[kept]), state.basis[:0]
        )
        basis = torch.zeros_like(state.basis)
        basis[: len(found)] = found
        return OGDPlusState(basis, rows, tasks)

    return Method(off, init=init, end_task=end_task)
