"""EWC: a quadratic penalty around earlier solutions, weighted by Fisher information.

Kirkpatrick et al. 2017, eq. 3; the online form is Schwarz et al. 2018, eq. 8.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require, require_choice
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import cross_entropy_with_quadratic_penalty
from gradalign_cli.models.losses import cross_entropies, cross_entropy
from gradalign_cli.numerics.vectors import mean_over_rows, ratio_or_zero

FisherForm = Literal["sample", "batch", "probability"]


class EWCState(NamedTuple):
    """strength, decay: [] hyper-parameters;  importance, penalty_centre: [P] the weights and the
    centre of the quadratic penalty."""

    strength: Tensor
    decay: Tensor
    importance: Tensor
    penalty_centre: Tensor


def minus_twice_root_target_probability(logits: Tensor, examples: Examples) -> Tensor:
    """-2 times the mean square root [] of the probability p of the target. For one example its
    gradient is sqrt(p) times that of the cross-entropy."""
    return -2 * (cross_entropies(logits, examples) / -2).exp().mean()


def diagonal_fisher(probe: Probe, fisher_form: FisherForm, samples: int | None) -> Tensor:
    """The diagonal Fisher information [P] of the ended task, from its first `samples` examples, all
    when None; fisher_form: see `ewc`."""
    rows = probe.rows[:samples]
    if fisher_form == "batch":
        return probe.mean_gradient(cross_entropy, rows).square()
    by_probability = fisher_form == "probability"
    function = minus_twice_root_target_probability if by_probability else cross_entropy
    return mean_over_rows(rows, lambda part: probe.sample_gradients(function, part).square())


def ewc(
    strength: float,
    online: bool,
    decay: float | None,
    fisher: FisherForm,
    fisher_samples: int | None,
) -> Method:
    """strength / 2 * sum_t sum_i F_ti (p_i - p_ti)^2 added to the loss, p_t being the solution of
    task t and F_t its diagonal Fisher information.

    The sum over tasks is one quadratic: its weight is the sum of the F_t and its centre the mean of
    the p_t weighted by F_t. So two vectors [P] stand for any number of tasks, exactly.
    online: only the last solution is the centre, and the weight is multiplied by `decay` before the
    F of an ended task is added. Eq. 8 weights the penalty by `decay` times this sum; with a decay
    below 1 `strength` here is that factor times the paper's. With `decay` null the weight is the
    mean of the F_t, as in the code published with HAT (Serra et al. 2018).
    fisher: `sample` is the mean of the squared gradients of single examples; `batch` is the squared
    gradient of the mean loss, as in GEM's published code; `probability` weights the square of each
    example by the probability of its class, as in DER's published code, whose e_lambda is half of
    `strength`.
    fisher_samples: how many examples of the task it is computed from; null for all.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(decay is None or 0 <= decay <= 1, "method.decay", "in [0, 1] or null", decay)
    require_choice(FisherForm, "method.fisher", fisher)
    require(
        fisher_samples is None or fisher_samples > 0,
        "method.fisher_samples",
        "positive or null",
        fisher_samples,
    )

    def init(setup: MethodSetup) -> EWCState:
        number = setup.params.new_tensor
        importance, penalty_centre = torch.zeros(2, len(setup.params))
        return EWCState(
            number(strength), number(1.0 if decay is None else decay), importance, penalty_centre
        )

    def end_task(state: EWCState, params: Tensor, probe: Probe) -> EWCState:
        task_fisher = diagonal_fisher(probe, fisher, fisher_samples)
        if online and decay is None:
            change = (task_fisher - state.importance) / (probe.task + 1)
            return state._replace(importance=state.importance + change, penalty_centre=params)
        if online:
            importance = state.decay * state.importance + task_fisher
            return state._replace(importance=importance, penalty_centre=params)
        importance = state.importance + task_fisher
        share = ratio_or_zero(task_fisher, importance)
        penalty_centre = state.penalty_centre + share * (params - state.penalty_centre)
        return state._replace(importance=importance, penalty_centre=penalty_centre)

    return Method(
        keep_gradient,
        objective=cross_entropy_with_quadratic_penalty(0.5),
        init=init,
        end_task=end_task,
    )
