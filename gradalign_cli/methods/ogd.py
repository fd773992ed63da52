"""OGD: stay orthogonal to the gradients of old answers (Farajtabar et al. 2020, alg. 1)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.benchmarks.benchmark import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, OfOne, Probe, Setting

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


def ogd(per_task: int, answer: str) -> Method:
    """g less its part in the span of the gradients of logits on examples of old tasks.

    per_task: gradients stored when a task has ended. answer: the logit of the `label` (OGD-GTL, the
    paper's best), the `average` of the logits, or `all` logits, of fewer examples.
    """
    require(per_task > 0, "method.per_task", "positive", per_task)
    require(answer in ANSWERS, "method.answer", f"one of {', '.join(ANSWERS)}", answer)

    def init(setting: Setting) -> OGDState:
        size = setting.tasks * per_task, len(setting.params)
        return OGDState(setting.params.new_zeros(size), setting.params.new_zeros(()))

    def align(gradients: Gradients, state: OGDState) -> tuple[Tensor, OGDState]:
        basis = state.basis
        return gradients.g - (basis @ gradients.g) @ basis, state

    def of_label(logits: Tensor, examples: Examples) -> Tensor:
        return logits[0].gather(0, examples.label)[0]

    def of_average(logits: Tensor, examples: Examples) -> Tensor:
        if not isinstance(examples.visible, Tensor):
            return logits.mean()
        return torch.where(examples.visible, logits, 0.0).sum() / examples.visible.sum()

    def of_logit(number: int) -> OfOne:
        return lambda logits, examples: logits[0, number]

    def end_task(state: OGDState, params: Tensor, probe: Probe) -> OGDState:
        if answer == "all":
            used = probe.used.nonzero()[:, 0].tolist()
            rows = probe.rows[: max(per_task // len(used), 1)]
            new = torch.cat([probe.sample_gradients(of_logit(n), rows) for n in used])
        else:
            of = of_label if answer == "label" else of_average
            new = probe.sample_gradients(of, probe.rows[:per_task])
        found = orthonormal(new[:per_task], state.basis)
        start = int(state.tasks) * per_task
        basis = state.basis.clone()
        basis[start : start + len(found)] = found
        return OGDState(basis, state.tasks + 1)

    return Method(align, init=init, end_task=end_task)
