"""Gradients taken after a few look-ahead steps, for methods that learn to align gradients.

A look-ahead step changes a copy of the parameters. The gradient on other examples after such a step
favours, to first order in the step size, gradients with a positive dot product (Riemer et al. 2019,
eq. 6; Gupta et al. 2020, sec. 3).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.methods.method import LossInputs, ObjectiveGradient, TakeGradient
from gradalign_cli.numerics.trees import tree_map


def single_examples(examples: Examples) -> list[Examples]:
    """n examples as n batches of one."""
    batches: list[Examples] = [
        tree_map(lambda field, i=i: field[i : i + 1], examples) for i in range(len(examples.target))
    ]
    return batches


class LookaheadGradient(NamedTuple):
    """objective_gradient: after the look-ahead steps;  step_gradient_sum: [P] of the gradients of
    these steps."""

    objective_gradient: ObjectiveGradient
    step_gradient_sum: Tensor


def lookahead_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, step_size: Tensor
) -> LookaheadGradient:
    """The gradient on batch and memory batches together, after one step of size `step_size` [] or
    [P] on each example of the batch in turn.

    This is the first-order hypergradient with respect to the parameters before the steps (arXiv
    2007.13904, alg. 1 and 2).
    """
    params = inputs.params
    gradient_sum = torch.zeros_like(params)
    for example in single_examples(inputs.batch):
        g, _ = take_gradient(inputs._replace(params=params, batch=example))
        params, gradient_sum = params - step_size * g, gradient_sum + g
    examples = concatenate_examples(inputs.batch, *inputs.memory_batches)
    objective_gradient = take_gradient(inputs._replace(params=params, batch=examples))
    return LookaheadGradient(objective_gradient, gradient_sum)
