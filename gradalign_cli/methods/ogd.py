"""OGD: stay orthogonal to the gradients of old answers (Farajtabar et al. 2020, alg. 1)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import ExampleFunction, Gradients, Method, MethodSetup, Probe

ANSWERS = ("label", "average", "all")
TOLERANCE = 1e-4  # length below which what a unit vector adds to a basis is rounding


class OGDState(NamedTuple):
    """basis: [T * per_task, P] orthonormal rows, zero where none is yet;  tasks: [] that ended."""

    basis: Tensor
    tasks: Tensor


def orthonormal(new: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal rows [<= n, P] that span what `new` [n, P] adds to the rows of `basis`: those of
    Gram and Schmidt, without the rows that add nothing."""
    rest = normalize(new, dim=1)
    for _ in range(2):  # once more for what rounding leaves
        rest = rest - (rest @ basis.T) @ basis
    found = torch.empty_like(rest)
    count = 0
    for row in rest:
        for _ in range(2):
            row = row - (found[:count] @ row) @ found[:count]
        if row.norm() > TOLERANCE:
            found[count] = row / row.norm()
            count += 1
    return found[:count]


def off(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
    """g less its part in the span of `state.basis`, and the state as it is."""
    return gradients.g - (state.basis @ gradients.g) @ state.basis, state


def of_label(logits: Tensor, examples: Examples) -> Tensor:
    """The logit of the right class."""
    return logits[0].gather(0, examples.target)[0]


def of_average(logits: Tensor, examples: Examples) -> Tensor:
    """The mean of the logits that the task may see."""
    if not isinstance(examples.visible_logits, Tensor):
        return logits.mean()
    return torch.where(examples.visible_logits, logits, 0.0).sum() / examples.visible_logits.sum()


def of_logit(number: int) -> ExampleFunction:
    """A given logit."""
    return lambda logits, examples: logits[0, number]


def ogd(per_task: int, answer: str) -> Method:
    """g less its part in the span of the gradients of logits on examples of old tasks.

    per_task: gradients stored when a task has ended. answer: the logit of the `label` (OGD-GTL, the
    paper's best), the `average` of the logits, or `all` logits, of fewer examples.
    """
    require(per_task > 0, "method.per_task", "positive", per_task)
    require(answer in ANSWERS, "method.answer", f"one of {', '.join(ANSWERS)}", answer)

    def new_gradients(probe: Probe) -> Tensor:
        if answer != "all":
            of = of_label if answer == "label" else of_average
            return probe.sample_gradients(of, probe.rows[:per_task])
        used = probe.task_logits.nonzero()[:, 0].tolist()
        rows = probe.rows[: max(per_task // len(used), 1)]
        return torch.cat([probe.sample_gradients(of_logit(n), rows) for n in used])[:per_task]

    return spanning(per_task, new_gradients)


def spanning(per_task: int, new_gradients: Callable[[Probe], Tensor]) -> Method:
    """The method that keeps off the span of vectors [<= per_task, P] of each ended task."""

    def init(setting: MethodSetup) -> OGDState:
        size = setting.tasks * per_task, len(setting.params)
        return OGDState(setting.params.new_zeros(size), setting.params.new_zeros(()))

    def end_task(state: OGDState, params: Tensor, probe: Probe) -> OGDState:
        found = orthonormal(new_gradients(probe), state.basis)
        start = int(state.tasks) * per_task
        basis = state.basis.clone()
        basis[start : start + len(found)] = found
        return OGDState(basis, state.tasks + 1)

    return Method(off, init=init, end_task=end_task)
