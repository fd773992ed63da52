"""Subspaces of what layers multiply: the core gradient space of GPM and its kin.

The gradient of a layer's matrix is a sum of outer products with its inputs, so a change orthogonal
to old inputs leaves old answers as they are (Saha et al. 2021, sec. 4).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import UserError, require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_stack

RANK_RULES = ("strict", "paper")


class Subspaces(NamedTuple):
    """For each layer with a matrix: bases [d, w], orthonormal columns, as many as there are, with
    zeros behind where another replica holds more;  importance [w] in [0, 1] of each column;
    tasks: [] that ended."""

    bases: tuple[Tensor, ...]
    importance: tuple[Tensor, ...]
    tasks: Tensor


class Rule(NamedTuple):
    """How many columns a basis gains.

    thresholds: the share of the inputs' energy that it must hold, one a layer or one for all;
    increase: added for each earlier task;  rank_rule: `strict` holds what the threshold says,
    `paper` takes one column fewer on the first task, as GPM's published code does.
    """

    thresholds: list[float]
    increase: float
    rank_rule: str

    def check(self) -> None:
        """Raise UserError where a value is out of its domain."""
        choices = f"one of {', '.join(RANK_RULES)}"
        require(self.rank_rule in RANK_RULES, "method.rank_rule", choices, self.rank_rule)
        listed = isinstance(self.thresholds, list) and len(self.thresholds) > 0
        require(listed, "method.thresholds", "a list of numbers", self.thresholds)
        for threshold in self.thresholds:
            fits = isinstance(threshold, float | int) and 0 < threshold <= 1
            require(fits, "method.thresholds", "in (0, 1]", threshold)

    def threshold(self, layer: int, task: int) -> float:
        """The share for a layer once `task` tasks are over."""
        return min(self.thresholds[layer % len(self.thresholds)] + self.increase * task, 1.0)


def projected_widths(setting: MethodSetup, project_head: bool) -> list[int]:
    """d of each layer with a matrix, but for the last where it is to be left free."""
    widths = [layer.size // layer.matrix_rows for layer in setting.layers if layer.matrix_rows]
    return widths if project_head else widths[:-1]


def one_or_each(field: str, values: Sequence[float], layers: int) -> None:
    """Raise UserError unless there is one value, or one for each of the layers."""
    if len(values) not in (1, layers):
        raise UserError(f"`{field}` must hold 1 or {layers} numbers, found {values}")


def nothing_held(setting: MethodSetup, rule: Rule, project_head: bool) -> Subspaces:
    """Empty bases for all layers with a matrix, but for the last where it is to be left free."""
    widths = projected_widths(setting, project_head)
    one_or_each("method.thresholds", rule.thresholds, len(widths))
    zeros = setting.params.new_zeros
    return Subspaces(tuple(zeros(d, 0) for d in widths), tuple(zeros(0) for d in widths), zeros(()))


def matrix(part: Tensor, layer: Layer) -> Tensor:
    """A layer's part of a flat vector as a matrix [rows, d], the bias its last column."""
    if not layer.has_bias:
        return part.view(layer.matrix_rows, -1)
    weight, bias = part.split([layer.size - layer.matrix_rows, layer.matrix_rows])
    return torch.cat([weight.view(layer.matrix_rows, -1), bias[:, None]], 1)


def flat(found: Tensor, layer: Layer) -> Tensor:
    """The reverse of `matrix`."""
    if not layer.has_bias:
        return found.flatten()
    return torch.cat([found[:, :-1].flatten(), found[:, -1]])


def matrices(vector: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """The matrix of each layer that has one."""
    parts = vector.split([layer.size for layer in layers])
    both = zip(parts, layers, strict=True)
    return [matrix(part, layer) for part, layer in both if layer.matrix_rows]


def representation(inputs: Tensor, layer: Layer) -> Tensor:
    """Inputs [n, columns] of a layer as R [d, n], with a row of ones for a bias."""
    ones = inputs.new_ones(len(inputs), 1)
    return (torch.cat([inputs, ones], 1) if layer.has_bias else inputs).T


def representations(inputs: Sequence[Tensor], layers: Sequence[Layer]) -> list[Tensor]:
    """R of each layer with a matrix."""
    matrices = [layer for layer in layers if layer.matrix_rows]
    return [representation(x, layer) for x, layer in zip(inputs, matrices, strict=True)]


def in_matrices(
    g: Tensor, layers: Sequence[Layer], changes: Iterable[Callable[[Tensor], Tensor]]
) -> Tensor:
    """g [P] with one change after the other applied to the matrix of each layer that has one, as
    far as they go."""
    left = iter(changes)
    changed = []
    for part, layer in zip(g.split([layer.size for layer in layers]), layers, strict=True):
        change = next(left, None) if layer.matrix_rows else None
        changed.append(flat(change(matrix(part, layer)), layer) if change else part)
    return torch.cat(changed)


def off(M: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """G -> G - G M diag(weight) M'."""
    return lambda G: G - ((G @ M) * weight) @ M.T


def project(
    g: Tensor,
    layers: Sequence[Layer],
    bases: Sequence[Tensor],
    importance: Sequence[Tensor],
    tasks: Tensor,
) -> Tensor:
    """g [P] with G - G M diag(importance) M' for the matrix G of every layer that has a basis M.

    What has no matrix, a BatchNorm's scales and shifts, stays once a task has ended.
    """
    found = in_matrices(g, layers, map(off, bases, importance))
    if all(layer.matrix_rows for layer in layers):
        return found
    sizes = [layer.size for layer in layers]
    parts = zip(found.split(sizes), layers, strict=True)
    return torch.cat([part if layer.matrix_rows else part * (tasks == 0) for part, layer in parts])


def rank_needed(values: Tensor, before: float, total: float, threshold: float) -> int:
    """The fewest singular values [k] that, with the energy `before`, hold `threshold * total`."""
    held = before + torch.cat([values.new_zeros(1), values.square().cumsum(0)])
    return int((held < threshold * total * (1 - 1e-6)).sum().clamp_max(len(values)))


def columns_to_add(M: Tensor, R: Tensor, threshold: float, drop: bool) -> tuple[Tensor, Tensor]:
    """New orthonormal columns [d, r] for a basis M [d, w] from R [d, n], and all singular values of
    what R adds [r].

    As many as hold `threshold` of R's energy together with M; drop: one fewer.
    """
    rest = R - M @ (M.T @ R)
    rest = rest - M @ (M.T @ rest)
    U, values, _ = torch.linalg.svd(rest.double(), full_matrices=False)
    total = float(R.double().square().sum())
    before = total - float(values.square().sum())
    rank = max(rank_needed(values, before, total, threshold) - drop, 0)
    rank = min(rank, len(M) - columns_held(M))
    return U[:, :rank].to(M.dtype), values[:rank].to(M.dtype)


def columns_held(M: Tensor) -> int:
    """How many of the columns of a basis [d, w] are not zero."""
    return int(M.square().sum().round())


def append(M: Tensor, weight: Tensor, new: Tensor, new_weight: Tensor) -> tuple[Tensor, Tensor]:
    """The basis [d, w] and its importance [w] with columns put behind those that are there."""
    there = columns_held(M)
    return torch.cat([M[:, :there], new], 1), torch.cat([weight[:there], new_weight])


def replaced(every: Tensor, task: int, own: Tensor) -> Tensor:
    """Matrices [T, d, w] of tasks with another [d, v] for one of them, as wide as the widest."""
    each = [*every]
    each[task] = own
    found: Tensor = tree_stack(pad_to_common_shapes(each))
    return found


Grow = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]


def subspace_method(rule: Rule, samples: int, project_head: bool, grow: Grow) -> Method:
    """The method that projects gradients off its bases, and grows them when a task has ended.

    samples: examples of the ended task. project_head: false where every task has logits of its own.
    grow: (M, importance, R, threshold, drop) -> (M, importance), see `columns_to_add`.
    """
    require(samples > 0, "method.samples", "positive", samples)
    rule.check()

    def init(setting: MethodSetup) -> Subspaces:
        return nothing_held(setting, rule, project_head)

    def align(gradients: Gradients, state: Subspaces) -> tuple[Tensor, Subspaces]:
        held = state.bases, state.importance, state.tasks
        return project(gradients.g, gradients.layers, *held), state

    def end_task(state: Subspaces, params: Tensor, probe: Probe) -> Subspaces:
        task = int(state.tasks)
        found = representations(probe.layer_inputs(probe.rows[:samples]), probe.layers)
        drop = rule.rank_rule == "paper" and task == 0
        grown = [
            grow(M, weight, found[number], rule.threshold(number, task), drop)
            for number, (M, weight) in enumerate(zip(state.bases, state.importance, strict=True))
        ]
        bases, importance = zip(*grown, strict=True)
        return Subspaces(bases, importance, state.tasks + 1)

    return Method(align, init=init, end_task=end_task)
