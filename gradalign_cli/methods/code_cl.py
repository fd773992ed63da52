"""CODE-CL: a gradient loses what matters to old tasks, and a task that overlaps with them scales
the weights there (Apolinario et al. 2025).

The formulas are those of the published code (github.com/mapolinario94/CODE-CL), with these
departures. The scales of a task begin as the identity, so that it starts from the weights as they
are, where the code draws small random ones. They have a step size of their own, which no schedule
divides; in the code it is that of the weights. The gradient of scaled weights is the true one in
all layers, where the code counts a part twice in linear layers. One aperture is that of all layers.
And one rule says how many columns a layer needs to have free directions, where the code has one for
convolutions and one for linear layers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.conceptors import (
    conceptor_and,
    conceptor_of,
    conceptor_or,
    leading_directions,
    without_small_values,
)
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    Probe,
    TakeGradient,
)
from gradalign_cli.methods.scaled_weights import (
    Layers,
    Scaling,
    learn_scaled_weights,
    scale_params,
    store_at_end,
    value_of_task,
)
from gradalign_cli.methods.subspace import (
    projected_layer_widths,
    reduce_by_matrices,
    representation_matrices,
    require_layer_inputs,
)
from gradalign_cli.numerics.trees import tree_map, tree_stack


class CodeCLState(NamedTuple):
    """conceptors, ended_scalings and current_scalings have one entry for each projected layer.

    conceptors: [d, d] of the inputs of all old tasks.
    ended_scalings: the scalings of all ended tasks, [T, d, w] and [T, w, w].
    current_scalings: those of the current task, in w free directions; 0 where it has none.
    ended_tasks: [] number of tasks that have ended.
    scales_lr: [] hyper-parameter.
    """

    conceptors: tuple[Tensor, ...]
    ended_scalings: tuple[Scaling, ...]
    current_scalings: tuple[Scaling, ...]
    ended_tasks: Tensor
    scales_lr: Tensor


class ConceptorRule(NamedTuple):
    """How the conceptor of a task follows from its inputs.

    aperture: how much counts as a large input: along a direction in which the inputs of a task have
    the mean square a, its conceptor has the eigenvalue a / (a + aperture^-2).
    coverage: the aperture grows until the inputs, multiplied by the conceptor, have this share of
    their lengths.
    least_eigenvalue: smaller eigenvalues of conceptors become 0.
    samples: how many examples of a task its conceptor is taken from.
    """

    aperture: float
    coverage: float
    least_eigenvalue: float
    samples: int

    def check(self) -> None:
        """Raise UserError where a value is out of its domain."""
        aperture, coverage, least_eigenvalue, samples = self
        require(1e-6 <= aperture <= 1e6, "method.aperture", "in [1e-6, 1e6]", aperture)
        require(0 <= coverage <= 0.9999, "method.coverage", "in [0, 0.9999]", coverage)
        require(0 <= least_eigenvalue < 1, "method.least_eigenvalue", "in [0, 1)", least_eigenvalue)
        require(samples > 0, "method.samples", "positive", samples)

    def task_conceptors(self, probe: Probe) -> list[Tensor]:
        """The conceptor [d, d] of a task in each layer with a matrix."""
        layer_inputs = probe.layer_inputs(probe.rows[: self.samples])
        representations = representation_matrices(layer_inputs, probe.layers)
        return [conceptor_of(R, self.aperture, self.coverage) for R in representations]


def code_cl_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: CodeCLState
) -> tuple[ObjectiveGradient, CodeCLState]:
    """The `find_gradient` of CODE-CL: at the scaled parameters, and a step of the scales."""
    rates = [state.scales_lr for _ in state.current_scalings]
    objective_gradient, changes = learn_scaled_weights(
        take_gradient, inputs, state.current_scalings, rates
    )
    scalings = tuple(
        Scaling(S, D) for (S, _), D in zip(state.current_scalings, changes, strict=True)
    )
    return objective_gradient, state._replace(current_scalings=scalings)


def align_by_conceptors(gradients: Gradients, state: CodeCLState) -> tuple[Tensor, CodeCLState]:
    """The `align` of CODE-CL: G - G C for the gradient G of each layer with a conceptor C."""
    direction = reduce_by_matrices(
        gradients.g, gradients.layers, state.conceptors, state.ended_tasks
    )
    return direction, state


def code_cl_test_params(state: CodeCLState, params: Tensor, task: int, layers: Layers) -> Tensor:
    """The `test_params` of CODE-CL: the parameters [P], scaled as the task has learned."""
    scalings = value_of_task(state.ended_scalings, state.current_scalings, state.ended_tasks, task)
    return scale_params(params, layers, scalings)


def free_directions(C: Tensor, B: Tensor, count: int, overlap_threshold: float) -> Tensor:
    """The directions [d, min(count, d)] that old tasks with the conceptor C [d, d] and a new one
    with B have most in common; 0 where the trace of "C and B" is not above `overlap_threshold` of
    that of C, and where the layer has no more than `count` columns."""
    overlap = conceptor_and(C, B)
    has_none = len(C) <= count or not overlap.trace() > overlap_threshold * C.trace()
    directions = leading_directions(overlap, count).to(C)
    return torch.zeros_like(directions) if has_none else directions


def free_shared_directions(
    state: CodeCLState, B: Sequence[Tensor], count: int, overlap_threshold: float
) -> CodeCLState:
    """The state in which a task with the conceptors B [d, d] begins: it scales the weights of each
    layer in the `free_directions`."""
    scalings = tuple(
        Scaling(
            free_directions(C, B[k], count, overlap_threshold), state.current_scalings[k].change
        )
        for k, C in enumerate(state.conceptors)
    )
    return state._replace(current_scalings=scalings)


def state_without_inputs(
    setup: MethodSetup, widths: list[int], free_dimensions: int, scales_lr: float
) -> CodeCLState:
    """The state before the first task, for projected layers of these numbers of columns."""
    zeros, number = setup.params.new_zeros, setup.params.new_tensor
    shapes = [(d, min(free_dimensions, d)) for d in widths]
    scalings = tuple(Scaling(zeros(d, w), zeros(w, w)) for d, w in shapes)
    conceptors, ended = tuple(zeros(d, d) for d in widths), tree_stack([scalings] * setup.tasks)
    return CodeCLState(conceptors, ended, scalings, number(0.0), number(scales_lr))


def code_cl(
    aperture: float,
    coverage: float,
    least_eigenvalue: float,
    samples: int,
    project_head: bool,
    free_dimensions: int,
    overlap_threshold: float,
    scales_lr: float,
) -> Method:
    """Each layer has a conceptor of the inputs of old tasks, and what it holds of the gradient is
    removed.

    When a task begins, its conceptor at the weights as they are is compared with that of the old
    tasks. Where they overlap, the task computes with weights that it scales within the directions
    they share most, and learns the scales; it is tested with them.

    aperture, coverage, least_eigenvalue, samples: see `ConceptorRule`.
    project_head: as in `gpm`.
    free_dimensions: in how many directions a layer's weights are scaled, if it has more columns.
    overlap_threshold: a task scales weights where the trace of what it has in common with the old
    tasks is above this share of the trace of theirs; with 1 or more no task does.
    scales_lr: the step size of the scales.
    """
    rule = ConceptorRule(aperture, coverage, least_eigenvalue, samples)
    rule.check()
    require(free_dimensions > 0, "method.free_dimensions", "positive", free_dimensions)
    for name, number in (("overlap_threshold", overlap_threshold), ("scales_lr", scales_lr)):
        require(number >= 0, f"method.{name}", "non-negative", number)

    def init(setup: MethodSetup) -> CodeCLState:
        require_layer_inputs(setup)
        widths = projected_layer_widths(setup, project_head)
        return state_without_inputs(setup, widths, free_dimensions, scales_lr)

    def begin_task(state: CodeCLState, params: Tensor, probe: Probe) -> tuple[CodeCLState, Tensor]:
        if probe.task == 0:
            return state, params
        B = [without_small_values(B, least_eigenvalue) for B in rule.task_conceptors(probe)]
        return free_shared_directions(state, B, free_dimensions, overlap_threshold), params

    def end_task(state: CodeCLState, params: Tensor, probe: Probe) -> CodeCLState:
        conceptors = tuple(
            without_small_values(conceptor_or(C, B), least_eigenvalue).to(C)
            for C, B in zip(state.conceptors, rule.task_conceptors(probe), strict=False)
        )
        current = state.current_scalings
        following = tree_map(torch.zeros_like, current)
        ended, current = store_at_end(state.ended_scalings, current, following, probe.task)
        return CodeCLState(conceptors, ended, current, state.ended_tasks + 1, state.scales_lr)

    return Method(
        align_by_conceptors,
        find_gradient=code_cl_gradient,
        init=init,
        begin_task=begin_task,
        end_task=end_task,
        test_params=code_cl_test_params,
        claims=("does_not_lengthen",),
    )
