"""CUBER: TRGP that moves along with old tasks which gain from it (Lin et al. 2022)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    Probe,
    TakeGradient,
)
from gradalign_cli.methods.subspace import (
    Rule,
    append,
    columns_to_add,
    matrices,
    project,
    replaced,
    representations,
)
from gradalign_cli.methods.trgp import Layers, TRGPState, shifted, trgp
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_stack
from gradalign_cli.numerics.vectors import ratio_or_zero


class CUBERState(NamedTuple):
    """trgp: the state of TRGP. Of each projected layer: gradients [T, rows, w] of each old task's
    loss where it ended, within its space;  without [T, d, v] the basis that there would be, had a
    task not been;  held [d, v] the basis that the present task keeps off. correlation: [] the
    cosine asked for."""

    trgp: TRGPState
    gradients: tuple[Tensor, ...]
    without: tuple[Tensor, ...]
    held: tuple[Tensor, ...]
    correlation: Tensor


def joined_by(
    G: Tensor, spaces: Tensor, gradients: Tensor, trust: Tensor, correlation: Tensor
) -> Tensor:
    """Which of the old tasks [T] gains most from a step along G [rows, d]; none where no space
    [T, d, w] holds more than `trust` of G's length (the paper's sufficient projection) at a cosine
    above `correlation` with the task's own gradient [T, rows, w] there (positive correlation)."""
    inside = G @ spaces
    lengths = inside.flatten(1).norm(dim=1)
    products = (inside * gradients).flatten(1).sum(1)
    cosines = ratio_or_zero(products, lengths * gradients.flatten(1).norm(dim=1))
    gains = (ratio_or_zero(lengths, G.norm()) > trust) & (cosines > correlation)
    best = torch.where(gains, cosines, -torch.inf).argmax()
    return gains & (torch.arange(len(gains), device=G.device) == best)


def cuber(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: str,
    project_head: bool,
    tasks: int,
    trust: float,
    step: float,
    correlation: float,
) -> Method:
    """TRGP whose weights also move along the inputs of an old task, in a layer where the task's
    first gradient and the old task's last one agree (arXiv 2211.00789).

    So a layer has three regimes for an old task: one whose inputs hold little of the gradient is
    left alone, one whose hold much is trusted as in TRGP, and one whose gradient agrees too is
    joined. correlation: the cosine above which they agree, the paper's eps_2, whose value we do not
    know. The other arguments are TRGP's.

    Ours: a layer joins one old task, the one that agrees most, and still keeps off all that the
    others need; an old gradient is that of `samples` examples, compared within the old task's
    space. As we remember it the paper also pulls joined weights back to where the task found them;
    that is left out.
    """
    rule = Rule(thresholds, increase, rank_rule)
    inner = trgp(thresholds, increase, samples, rank_rule, project_head, tasks, trust, step)
    require(-1 <= correlation <= 1, "method.correlation", "in [-1, 1]", correlation)

    def init(setting: MethodSetup) -> CUBERState:
        own = inner.init(setting)
        weights = matrices(setting.params, setting.layers)
        both = zip(weights, own.spaces, strict=False)
        return CUBERState(
            own,
            tuple(W @ spaces for W, spaces in both),  # empty, as all spaces are
            own.spaces,
            own.bases,
            setting.params.new_tensor(correlation),
        )

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: CUBERState
    ) -> tuple[ObjectiveGradient, CUBERState]:
        own, layers = state.trgp, trial.layers
        computed = derivative(trial._replace(params=shifted(trial.params, layers, own.now)))
        left, held = [], []
        kept = zip(own.spaces, state.gradients, state.without, state.held, strict=True)
        for G, (spaces, gradients, without, before) in zip(
            matrices(computed[0], layers), kept, strict=False
        ):
            joined = joined_by(G, spaces, gradients, own.trust, state.correlation)[:, None, None]
            first = (own.fresh > 0) & joined.any()
            held.append(torch.where(first, (joined * without).sum(0), before))
            left.append(torch.where(joined, 0.0, spaces))  # what is joined is not scaled
        found, after = inner.find_gradient(
            lambda _: computed, trial, own._replace(spaces=tuple(left))
        )
        after = after._replace(spaces=own.spaces)
        return found, state._replace(trgp=after, held=tuple(held))

    def align(gradients: Gradients, state: CUBERState) -> tuple[Tensor, CUBERState]:
        whole = [torch.ones_like(M[0]) for M in state.held]
        held = state.held, whole, state.trgp.tasks
        return project(gradients.g, gradients.layers, *held), state

    def end_task(state: CUBERState, params: Tensor, probe: Probe) -> CUBERState:
        task, rows = probe.task, probe.rows[:samples]
        after = inner.end_task(state.trgp, params, probe)
        found = representations(probe.layer_inputs(rows), probe.layers)
        last = matrices(probe.mean_gradient(cross_entropy, rows), probe.layers)
        gradients, without, held = [], [], []
        for number, M in enumerate(state.trgp.bases):
            threshold, all_others = rule.threshold(number, task), [*state.without[number]]
            for old in range(task):
                others = all_others[old]
                new, _ = columns_to_add(others, found[number], threshold, False)
                ones = torch.ones_like(others[0]), torch.ones_like(new[0])
                all_others[old] = append(others, ones[0], new, ones[1])[0]
            all_others[task] = M
            *all_others, kept = pad_to_common_shapes([*all_others, after.bases[number]])
            without.append(tree_stack(all_others))
            held.append(kept)
            own = last[number] @ after.spaces[number][task]
            gradients.append(replaced(state.gradients[number], task, own))
        return CUBERState(after, tuple(gradients), tuple(without), tuple(held), state.correlation)

    def tested(state: CUBERState, params: Tensor, task: int, layers: Layers) -> Tensor:
        return inner.test_params(state.trgp, params, task, layers)

    return Method(align, find_gradient=derive, init=init, end_task=end_task, test_params=tested)
