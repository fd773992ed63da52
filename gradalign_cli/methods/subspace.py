"""Subspaces of the layers' inputs: the core gradient space of GPM and related methods.

The gradient of a layer's matrix is a sum of outer products with the layer's inputs. So a change of
the matrix that is orthogonal to the inputs of old examples does not change the layer's outputs for
them (Saha et al. 2021, sec. 4).

d is the number of columns of a layer's matrix, the bias counted as one more column. A basis M is
[d, w] with orthonormal columns; columns of zeros may follow them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import UserError, require, require_choice
from gradalign_cli.methods.method import (
    NO_LAYER_INPUTS,
    Gradients,
    Method,
    MethodSetup,
    Probe,
)
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_stack

RankRule = Literal["strict", "paper"]


class SubspaceState(NamedTuple):
    """bases: M [d, w] of each projected layer; where replicas have different numbers of columns,
    the smaller bases are padded with zeros;  importance: [w] for each projected layer, in [0, 1]
    for each column;  ended_tasks: [] number of tasks that have ended."""

    bases: tuple[Tensor, ...]
    importance: tuple[Tensor, ...]
    ended_tasks: Tensor


class BasisSizeRule(NamedTuple):
    """How many columns a basis gains when a task has ended.

    thresholds: the share of the inputs' energy that the basis must hold, one number for each
    projected layer or one for all.
    increase: added to the thresholds for each earlier task.
    rank_rule: `strict` holds the threshold exactly; `paper` adds one column fewer on the first
    task, as GPM's published code does.
    """

    thresholds: list[float]
    increase: float
    rank_rule: RankRule

    def check(self) -> None:
        """Raise UserError where a value is out of its domain."""
        require_choice(RankRule, "method.rank_rule", self.rank_rule)
        is_list = isinstance(self.thresholds, list) and len(self.thresholds) > 0
        require(is_list, "method.thresholds", "a list of numbers", self.thresholds)
        for threshold in self.thresholds:
            is_valid = isinstance(threshold, float | int) and 0 < threshold <= 1
            require(is_valid, "method.thresholds", "in (0, 1]", threshold)
        require(-1 <= self.increase <= 1, "method.increase", "in [-1, 1]", self.increase)

    def threshold(self, layer: int, task: int) -> float:
        """The threshold of a projected layer at the end of task number `task`."""
        return min(self.thresholds[layer % len(self.thresholds)] + self.increase * task, 1.0)

    def one_column_fewer(self, task: int) -> bool:
        """Whether the bases gain one column fewer at the end of task number `task`."""
        return self.rank_rule == "paper" and task == 0


def projected_layer_widths(setup: MethodSetup, project_head: bool) -> list[int]:
    """d of each projected layer: of all layers with a matrix, without the last one unless
    `project_head`. Raises UserError where no layer is left."""
    widths = [layer.size // layer.matrix_rows for layer in setup.layers if layer.matrix_rows]
    projected = widths if project_head else widths[:-1]
    domain = "true where the network has one layer alone"
    require(project_head or len(projected) > 0, "method.project_head", domain, project_head)
    return projected


def require_layer_inputs(setup: MethodSetup) -> None:
    """Raise UserError where the model does not give the inputs of its layers."""
    if not setup.has_layer_inputs:
        raise UserError(NO_LAYER_INPUTS)


def require_one_or_per_layer(field: str, values: Sequence[float], layers: int) -> None:
    """Raise UserError unless `values` holds one number, or one for each of the layers."""
    if len(values) not in (1, layers):
        raise UserError(f"`{field}` must hold 1 or {layers} numbers, found {values}")


def empty_subspaces(
    setup: MethodSetup, basis_size_rule: BasisSizeRule, project_head: bool
) -> SubspaceState:
    """Bases without columns for the projected layers.

    Raises UserError where the number of thresholds does not fit the number of these layers.
    """
    widths = projected_layer_widths(setup, project_head)
    require_one_or_per_layer("method.thresholds", basis_size_rule.thresholds, len(widths))
    zeros = setup.params.new_zeros
    return SubspaceState(
        tuple(zeros(d, 0) for d in widths), tuple(zeros(0) for d in widths), zeros(())
    )


def layer_matrix(layer_vector: Tensor, layer: Layer) -> Tensor:
    """A layer's part of a flat vector as a matrix [rows, d] whose last column is the bias, if the
    layer has one."""
    if not layer.has_bias:
        return layer_vector.view(layer.matrix_rows, -1)
    weight, bias = layer_vector.split([layer.size - layer.matrix_rows, layer.matrix_rows])
    return torch.cat([weight.view(layer.matrix_rows, -1), bias[:, None]], 1)


def flatten_layer_matrix(matrix: Tensor, layer: Layer) -> Tensor:
    """The inverse of `layer_matrix`."""
    if not layer.has_bias:
        return matrix.flatten()
    return torch.cat([matrix[:, :-1].flatten(), matrix[:, -1]])


def layer_matrices(vector: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """The `layer_matrix` of each layer with a matrix, from a flat vector [P]."""
    parts = zip(vector.split([layer.size for layer in layers]), layers, strict=True)
    return [layer_matrix(part, layer) for part, layer in parts if layer.matrix_rows]


def representation_matrix(inputs: Tensor, layer: Layer) -> Tensor:
    """R [d, n] from the inputs [n, columns] of a layer, with a row of ones where it has a bias."""
    ones = inputs.new_ones(len(inputs), 1)
    return (torch.cat([inputs, ones], 1) if layer.has_bias else inputs).T


def representation_matrices(
    layer_inputs: Sequence[Tensor], layers: Sequence[Layer]
) -> list[Tensor]:
    """The `representation_matrix` of each layer with a matrix, from the inputs of each of them."""
    matrix_layers = [layer for layer in layers if layer.matrix_rows]
    return [
        representation_matrix(inputs, layer)
        for inputs, layer in zip(layer_inputs, matrix_layers, strict=True)
    ]


def map_layer_matrices(
    vector: Tensor, layers: Sequence[Layer], functions: Iterable[Callable[[Tensor], Tensor]]
) -> Tensor:
    """A flat vector [P] after the first function is applied to the matrix of the first layer that
    has one, the second function to the second, and so on; the rest is unchanged."""
    remaining_functions = iter(functions)
    parts = []
    for part, layer in zip(vector.split([layer.size for layer in layers]), layers, strict=True):
        function = next(remaining_functions, None) if layer.matrix_rows else None
        if function:
            parts.append(flatten_layer_matrix(function(layer_matrix(part, layer)), layer))
        else:
            parts.append(part)
    return torch.cat(parts)


def projection_off(M: Tensor, importance: Tensor) -> Callable[[Tensor], Tensor]:
    """The function G -> G - G M diag(importance) M' for a basis M [d, w] and importance [w]."""
    return lambda G: G - ((G @ M) * importance) @ M.T


def projection_on(M: Tensor, importance: Tensor) -> Callable[[Tensor], Tensor]:
    """The function G -> G M diag(importance) M' for a basis M [d, w] and importance [w]."""
    return lambda G: ((G @ M) * importance) @ M.T


def map_matrices_of_old_tasks(
    g: Tensor,
    layers: Sequence[Layer],
    functions: Iterable[Callable[[Tensor], Tensor]],
    ended_tasks: Tensor,
) -> Tensor:
    """g [P] as `map_layer_matrices` leaves it, but layers without a matrix, such as BatchNorm's
    scales and shifts, get the gradient 0 as soon as a task has ended."""
    mapped = map_layer_matrices(g, layers, functions)
    if all(layer.matrix_rows for layer in layers):
        return mapped
    parts = zip(mapped.split([layer.size for layer in layers]), layers, strict=True)
    return torch.cat(
        [part if layer.matrix_rows else part * (ended_tasks == 0) for part, layer in parts]
    )


def project_off_bases(
    g: Tensor,
    layers: Sequence[Layer],
    bases: Sequence[Tensor],
    importance: Sequence[Tensor],
    ended_tasks: Tensor,
) -> Tensor:
    """g [P] with G - G M diag(importance) M' for the matrix G of every layer that has a basis M,
    and 0 for layers without a matrix as soon as a task has ended."""
    functions = map(projection_off, bases, importance)
    return map_matrices_of_old_tasks(g, layers, functions, ended_tasks)


def reduce_by_matrices(
    g: Tensor, layers: Sequence[Layer], matrices: Sequence[Tensor], ended_tasks: Tensor
) -> Tensor:
    """g [P] with G - G C for the matrix G of every layer that has a matrix C [d, d], and 0 for
    layers without a matrix as soon as a task has ended."""
    functions = [lambda G, C=C: G - G @ C for C in matrices]
    return map_matrices_of_old_tasks(g, layers, functions, ended_tasks)


def needed_rank(
    singular_values: Tensor, basis_energy: float, total_energy: float, threshold: float
) -> int:
    """The smallest number of singular values [k], largest first, whose energy together with that of
    the basis is at least threshold * total energy; an energy is a sum of squares."""
    energies = basis_energy + torch.cat(
        [singular_values.new_zeros(1), singular_values.square().cumsum(0)]
    )
    too_small = energies < threshold * total_energy * (1 - 1e-6)
    return int(too_small.sum().clamp_max(len(singular_values)))


class SingularDirections(NamedTuple):
    """directions: [d, k] left singular vectors;  singular_values: [k] of these, largest first."""

    directions: Tensor
    singular_values: Tensor


def directions_outside(M: Tensor, R: Tensor) -> SingularDirections:
    """The singular directions of the part of R [d, n] outside a basis M [d, w], in float64."""
    remainder = R - M @ (M.T @ R)
    remainder = remainder - M @ (M.T @ remainder)
    U, singular_values, _ = torch.linalg.svd(remainder.double(), full_matrices=False)
    return SingularDirections(U, singular_values)


def columns_to_add(
    M: Tensor, R: Tensor, threshold: float, one_column_fewer: bool
) -> SingularDirections:
    """New orthonormal columns [d, r] for a basis M [d, w], so that it holds `threshold` of the
    energy of R [d, n]; one column less if `one_column_fewer`.

    They are the first directions of the part of R outside the basis.
    """
    U, singular_values = directions_outside(M, R)
    total_energy = float(R.double().square().sum())
    basis_energy = total_energy - float(singular_values.square().sum())
    rank = max(
        needed_rank(singular_values, basis_energy, total_energy, threshold) - one_column_fewer, 0
    )
    rank = min(rank, len(M) - basis_rank(M))
    return SingularDirections(U[:, :rank].to(M.dtype), singular_values[:rank].to(M.dtype))


def basis_rank(M: Tensor) -> int:
    """The number of columns of a basis M [d, w] that are not 0."""
    return int(M.square().sum().round())


def append_columns(
    M: Tensor, importance: Tensor, columns: Tensor, column_importance: Tensor
) -> tuple[Tensor, Tensor]:
    """A basis and the importance of its columns, with columns [d, r] and their importance [r]
    behind those of M [d, w] that are not 0."""
    rank = basis_rank(M)
    return (
        torch.cat([M[:, :rank], columns], 1),
        torch.cat([importance[:rank], column_importance]),
    )


def replace_task_tensor(tensors: Tensor, task: int, tensor: Tensor) -> Tensor:
    """The tensors [T, ...] of all tasks with `tensor` as that of one task; zeros stand behind the
    smaller ones."""
    of_tasks = [*tensors]
    of_tasks[task] = tensor
    stacked: Tensor = tree_stack(pad_to_common_shapes(of_tasks))
    return stacked


# (M, importance, R, threshold, one_column_fewer) -> (M, importance); see `columns_to_add`
GrowBasis = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]


def subspace_method(
    basis_size_rule: BasisSizeRule, samples: int, project_head: bool, grow_basis: GrowBasis
) -> Method:
    """The method that projects the gradient off the bases, and grows them when a task has ended.

    samples: how many examples of the ended task the layers' inputs are taken from.
    project_head: whether the last layer is projected too; false where every task has logits of its
    own.
    """
    require(samples > 0, "method.samples", "positive", samples)
    basis_size_rule.check()

    def init(setup: MethodSetup) -> SubspaceState:
        require_layer_inputs(setup)
        return empty_subspaces(setup, basis_size_rule, project_head)

    def align(gradients: Gradients, state: SubspaceState) -> tuple[Tensor, SubspaceState]:
        return project_off_bases(gradients.g, gradients.layers, *state), state

    def end_task(state: SubspaceState, params: Tensor, probe: Probe) -> SubspaceState:
        task = int(state.ended_tasks)
        R = representation_matrices(probe.layer_inputs(probe.rows[:samples]), probe.layers)
        grown = [
            grow_basis(
                M,
                importance,
                R[k],
                basis_size_rule.threshold(k, task),
                basis_size_rule.one_column_fewer(task),
            )
            for k, (M, importance) in enumerate(zip(state.bases, state.importance, strict=True))
        ]
        bases, importance = zip(*grown, strict=True)
        return SubspaceState(bases, importance, state.ended_tasks + 1)

    return Method(align, init=init, end_task=end_task, align_accepts_updates=True)
