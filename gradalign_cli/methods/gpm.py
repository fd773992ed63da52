"""GPM: stay orthogonal to the inputs that old tasks gave each layer (Saha et al. 2021, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, Probe, Setting
from gradalign_cli.methods.subspace import (
    Rule,
    Subspaces,
    append,
    columns_to_add,
    nothing_held,
    project,
    representations,
)


def gpm(
    thresholds: list[float], increase: float, samples: int, rank_rule: str, project_head: bool
) -> Method:
    """When a task has ended, the inputs it gives each layer join a basis; later gradients are kept
    orthogonal to it.

    samples: examples of the ended task. project_head: false where every task has logits of its own.
    The others are those of `Rule`.
    """
    require(samples > 0, "method.samples", "positive", samples)
    rule = Rule(thresholds, increase, rank_rule)
    rule.check()

    def init(setting: Setting) -> Subspaces:
        return nothing_held(setting, rule, project_head)

    def align(gradients: Gradients, state: Subspaces) -> tuple[Tensor, Subspaces]:
        return project(gradients.g, gradients.layers, state.bases, state.importance), state

    def end_task(state: Subspaces, params: Tensor, probe: Probe) -> Subspaces:
        task = int(state.tasks)
        found = representations(probe.inputs(probe.rows[:samples]), probe.layers)
        grown = []
        for number, (M, weight) in enumerate(zip(state.bases, state.importance, strict=True)):
            drop = rank_rule == "paper" and task == 0
            new, _ = columns_to_add(M, found[number], rule.threshold(number, task), drop)
            grown.append(append(M, weight, new, torch.ones_like(new[0])))
        bases, importance = zip(*grown, strict=True)
        return Subspaces(bases, importance, state.tasks + 1)

    return Method(align, init=init, end_task=end_task)
