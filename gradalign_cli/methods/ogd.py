"""OGD: stay orthogonal to the gradients of old tasks' logits (Farajtabar et al. 2020, alg. 1)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require, require_choice
from gradalign_cli.methods.method import ExampleFunction, Gradients, Method, MethodSetup, Probe

DifferentiatedLogits = Literal["label", "average", "all"]
TOLERANCE = 1e-4  # a unit vector's remainder off a basis that is shorter is a rounding error


class OGDState(NamedTuple):
    """basis: [T * gradients_per_task, P] orthonormal rows, and rows of zeros where none is stored
    yet;
    ended_tasks: [] number of tasks that have ended."""

    basis: Tensor
    ended_tasks: Tensor


def orthonormal_additions(vectors: Tensor, basis: Tensor) -> Tensor:
    """The rows [at most n, P] that Gram-Schmidt adds to an orthonormal basis for vectors [n, P].

    A vector in the span of the basis and of the vectors before it adds no row. Rows of the basis
    may be 0.
    """
    remainders = normalize(vectors, dim=1)
    for _ in range(2):  # twice, against rounding errors
        remainders = remainders - (remainders @ basis.T) @ basis
    additions = torch.empty_like(remainders)
    count = 0
    for row in remainders:
        for _ in range(2):
            row = row - (additions[:count] @ row) @ additions[:count]
        if row.norm() > TOLERANCE:
            additions[count] = row / row.norm()
            count += 1
    return additions[:count]


def align_off_basis(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
    """The `align` that removes from g its part in the span of the rows of `state.basis`."""
    return gradients.g - (state.basis @ gradients.g) @ state.basis, state


def target_logit_of_single_example(logits: Tensor, examples: Examples) -> Tensor:
    """The logit [] of an example's class."""
    return logits[0].gather(0, examples.target)[0]


def mean_visible_logit(logits: Tensor, examples: Examples) -> Tensor:
    """The mean [] of the logits that the example's task may use."""
    if not isinstance(examples.visible_logit_mask, Tensor):
        return logits.mean()
    return (
        torch.where(examples.visible_logit_mask, logits, 0.0).sum()
        / examples.visible_logit_mask.sum()
    )


def logit_with_index(logit_index: int) -> ExampleFunction:
    """The function that returns the logit with an index."""
    return lambda logits, examples: logits[0, logit_index]


def ogd(gradients_per_task: int, differentiated_logits: DifferentiatedLogits) -> Method:
    """g without its part in the span of the gradients of logits on examples of old tasks.

    gradients_per_task: the most gradients stored of each task.
    differentiated_logits: `label` is that of each example's class (OGD-GTL, the paper's best),
    `average` the mean of its logits, and `all` each logit, of fewer examples.
    """
    require(gradients_per_task > 0, "method.gradients_per_task", "positive", gradients_per_task)
    require_choice(DifferentiatedLogits, "method.differentiated_logits", differentiated_logits)

    def task_gradients(probe: Probe) -> Tensor:
        if differentiated_logits != "all":
            logit = (
                target_logit_of_single_example
                if differentiated_logits == "label"
                else mean_visible_logit
            )
            return probe.sample_gradients(logit, probe.rows[:gradients_per_task])
        logit_numbers = probe.task_logit_mask.nonzero()[:, 0].tolist()
        rows = probe.rows[: max(gradients_per_task // len(logit_numbers), 1)]
        gradients = [
            probe.sample_gradients(logit_with_index(number), rows) for number in logit_numbers
        ]
        return torch.cat(gradients)[:gradients_per_task]

    return stored_span_method(gradients_per_task, task_gradients)


def stored_span_method(gradients_per_task: int, task_vectors: Callable[[Probe], Tensor]) -> Method:
    """The method that removes from g its part in the span of stored vectors: those that
    `task_vectors(probe) -> [at most gradients_per_task, P]` returns at the end of each task."""

    def init(setup: MethodSetup) -> OGDState:
        shape = setup.tasks * gradients_per_task, len(setup.params)
        return OGDState(setup.params.new_zeros(shape), setup.params.new_zeros(()))

    def end_task(state: OGDState, params: Tensor, probe: Probe) -> OGDState:
        additions = orthonormal_additions(task_vectors(probe), state.basis)
        start = int(state.ended_tasks) * gradients_per_task
        basis = state.basis.clone()
        basis[start : start + len(additions)] = additions
        return OGDState(basis, state.ended_tasks + 1)

    return Method(
        align_off_basis,
        init=init,
        end_task=end_task,
        claims=("does_not_lengthen", "projects_orthogonally"),
        align_accepts_updates=True,
    )
