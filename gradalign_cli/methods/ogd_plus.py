"""OGD+: OGD whose stored gradients are taken anew at the current weights (Abbana Bennani et al.
2020)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe
from gradalign_cli.methods.ogd import (
    align_off_basis,
    orthonormal_additions,
    target_logit_of_single_example,
)


class OGDPlusState(NamedTuple):
    """basis: [T * gradients_per_task, P] orthonormal rows, then rows of zeros;  rows, tasks: [T *
    gradients_per_task]
    of the stored examples, -1 where none is stored yet."""

    basis: Tensor
    rows: Tensor
    tasks: Tensor


def ogd_plus(gradients_per_task: int) -> Method:
    """g without its part in the span of the gradients of the target logits on examples of old
    tasks. All these gradients are taken anew whenever a task has ended (arXiv 2006.11942, alg. 1).

    gradients_per_task: the most examples stored of each task.
    """
    require(gradients_per_task > 0, "method.gradients_per_task", "positive", gradients_per_task)

    def init(setup: MethodSetup) -> OGDPlusState:
        count, params = setup.tasks * gradients_per_task, setup.params
        empty = torch.full((count,), -1, device=params.device)
        return OGDPlusState(params.new_zeros(count, len(params)), empty, empty.clone())

    def end_task(state: OGDPlusState, params: Tensor, probe: Probe) -> OGDPlusState:
        task_rows = probe.rows[:gradients_per_task]
        rows, tasks = state.rows.clone(), state.tasks.clone()
        places = slice(
            probe.task * gradients_per_task, probe.task * gradients_per_task + len(task_rows)
        )
        rows[places], tasks[places] = task_rows, probe.task
        filled = rows >= 0
        gradients = probe.sample_gradients(
            target_logit_of_single_example, rows[filled], tasks[filled]
        )
        orthonormal_rows = orthonormal_additions(gradients, state.basis[:0])
        basis = torch.zeros_like(state.basis)
        basis[: len(orthonormal_rows)] = orthonormal_rows
        return OGDPlusState(basis, rows, tasks)

    return Method(
        align_off_basis,
        init=init,
        end_task=end_task,
        claims=("does_not_lengthen", "projects_orthogonally"),
        align_accepts_updates=True,
    )
