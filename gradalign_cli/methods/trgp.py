"""TRGP: GPM that reuses the old tasks a new one resembles (Lin et al. 2022)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

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
    in_matrices,
    matrices,
    nothing_held,
    project,
    replaced,
    representations,
)
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_map, tree_stack
from gradalign_cli.numerics.vectors import ratio_or_zero

Layers = tuple[Layer, ...]


class Trust(NamedTuple):
    """Of one task in one layer: spaces [K, d, w], orthonormal columns S_k of the tasks it trusts,
    zero where it trusts none;  scales: [K, w, w] the Q_k that it learns for them."""

    spaces: Tensor
    scales: Tensor


class TRGPState(NamedTuple):
    """Of each projected layer: bases [d, v] of all old inputs;  spaces [T, d, w] of each old task,
    w that of the widest;  learned: what each ended task trusted [T, K, d, w];  now: what the
    present one does. fresh: []
    1 until the task's first step;  tasks: [] that ended;  step: [] of the scales;  trust: []
    the share asked for."""

    bases: tuple[Tensor, ...]
    spaces: tuple[Tensor, ...]
    learned: tuple[Trust, ...]
    now: tuple[Trust, ...]
    fresh: Tensor
    tasks: Tensor
    step: Tensor
    trust: Tensor


def shift(W: Tensor, trust: Trust) -> Tensor:
    """W [r, d] -> W + sum_k W S_k (Q_k - I) S_k': the weights that a task computes with (eq. 4)."""
    S, Q = trust
    eye = torch.eye(Q.shape[-1], dtype=W.dtype, device=W.device)
    return W + (W @ S @ (Q - eye) @ S.mT).sum(0)


def shifted(params: Tensor, layers: Layers, of: Sequence[Trust]) -> Tensor:
    """The parameters [P] that a task computes with, from its trust in each projected layer."""
    return in_matrices(params, layers, [partial(shift, trust=own) for own in of])


def unshift(G: Tensor, trust: Trust) -> Tensor:
    """The gradient of W, from that of `shift(W)`."""
    S, Q = trust
    return shift(G, Trust(S, Q.mT))


def scales_gradient(W: Tensor, G: Tensor, S: Tensor) -> Tensor:
    """The gradient [K, w, w] of the scales, from that of `shift(W)`."""
    return (W @ S).mT @ (G @ S)


def trusted(G: Tensor, spaces: Tensor, most: int, threshold: Tensor) -> Tensor:
    """The spaces [K, d, w] of the tasks that hold most of G, where that is more than `threshold` of
    its length; zero for the rest (def. 2)."""
    shares = ratio_or_zero((G @ spaces).flatten(1).norm(dim=1), G.norm())
    best = shares.topk(min(most, len(shares)))
    found = spaces[best.indices] * (best.values > threshold)[:, None, None]
    return pad(found, (0, 0, 0, 0, 0, most - len(found)))


def trgp(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: str,
    project_head: bool,
    tasks: int,
    trust: float,
    step: float,
) -> Method:
    """GPM, with old weights scaled anew for each task within the spaces of `tasks` old ones.

    A task computes with `shift` of the weights and is tested with what it has learned for them;
    the weights themselves keep off all old inputs. tasks, trust: how many old tasks a layer trusts
    at most, and the share of its first gradient that their inputs must hold (the paper's 0.5).
    step: the step size of the scales. The other arguments are those of `Rule` and `gpm`.
    """
    rule = Rule(thresholds, increase, rank_rule)
    rule.check()
    require(samples > 0, "method.samples", "positive", samples)
    require(tasks > 0, "method.tasks", "positive", tasks)
    require(0 <= trust <= 1, "method.trust", "in [0, 1]", trust)
    require(step >= 0, "method.step", "non-negative", step)

    def nobody(spaces: Tensor) -> Trust:
        """Trust in no task, where spaces [T, d, w] can be trusted."""
        d, w = spaces.shape[1:]
        eye = torch.eye(w, dtype=spaces.dtype, device=spaces.device)
        return Trust(spaces.new_zeros(tasks, d, w), eye.expand(tasks, w, w).clone())

    def init(setting: MethodSetup) -> TRGPState:
        bases = nothing_held(setting, rule, project_head).bases
        spaces = tuple(M.expand(setting.tasks, *M.shape) for M in bases)
        now, number = tuple(map(nobody, spaces)), setting.params.new_tensor
        return TRGPState(
            bases,
            spaces,
            tree_stack([now] * setting.tasks),
            now,
            number(1.0),
            number(0.0),
            number(step),
            number(trust),
        )

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: TRGPState
    ) -> tuple[ObjectiveGradient, TRGPState]:
        layers = trial.layers
        g, rest = derivative(trial._replace(params=shifted(trial.params, layers, state.now)))
        now: list[Trust] = []
        back: list[Callable[[Tensor], Tensor]] = []
        both = zip(matrices(trial.params, layers), matrices(g, layers), strict=True)
        for (W, G), (S, Q), spaces in zip(both, state.now, state.spaces, strict=False):
            S = torch.where(state.fresh > 0, trusted(G, spaces, len(S), state.trust), S)
            now.append(Trust(S, Q - state.step * scales_gradient(W, G, S)))
            back.append(partial(unshift, trust=Trust(S, Q)))
        after = state._replace(now=tuple(now), fresh=torch.zeros_like(state.fresh))
        return (in_matrices(g, layers, back), rest), after

    def align(gradients: Gradients, state: TRGPState) -> tuple[Tensor, TRGPState]:
        whole = [torch.ones_like(M[0]) for M in state.bases]
        return project(gradients.g, gradients.layers, state.bases, whole, state.tasks), state

    def end_task(state: TRGPState, params: Tensor, probe: Probe) -> TRGPState:
        task, found = (
            probe.task,
            representations(probe.layer_inputs(probe.rows[:samples]), probe.layers),
        )
        drop = rule.rank_rule == "paper" and task == 0
        bases, spaces = [], []
        for number, (M, old) in enumerate(zip(state.bases, state.spaces, strict=True)):
            R, threshold = found[number], rule.threshold(number, task)
            new, _ = columns_to_add(M, R, threshold, drop)
            bases.append(append(M, torch.ones_like(M[0]), new, torch.ones_like(new[0]))[0])
            own, _ = columns_to_add(M[:, :0], R, threshold, drop)
            spaces.append(replaced(old, task, own))
        now = tuple(map(nobody, spaces))
        trusts: list[tuple[Trust, ...]] = [tree_index(state.learned, t) for t in range(task)]
        trusts += [state.now] + [now] * (len(spaces[0]) - task)
        return TRGPState(
            tuple(bases),
            tuple(spaces),
            tree_stack(pad_to_common_shapes(trusts)[:-1]),  # as wide as what the next task trusts
            now,
            torch.ones_like(state.fresh),
            state.tasks + 1,
            state.step,
            state.trust,
        )

    def tested(state: TRGPState, params: Tensor, task: int, layers: Layers) -> Tensor:
        present = state.tasks == task
        own: tuple[Trust, ...] = tree_map(
            lambda now, kept: torch.where(present, now, kept[task]), state.now, state.learned
        )
        return shifted(params, layers, own)

    return Method(align, find_gradient=derive, init=init, end_task=end_task, test_params=tested)
