"""Gradients taken after a few imagined steps, which methods that learn to align share.

A step on one example followed by the gradient on others rewards, to first order, gradients with a
positive dot product (Riemer et al. 2019, eq. 6; Gupta et al. 2020, sec. 3).
"""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.methods.method import LossInputs, ObjectiveGradient, TakeGradient
from gradalign_cli.numerics.trees import tree_map


def one_by_one(examples: Examples) -> list[Examples]:
    """Each of n examples alone."""
    found: list[Examples] = [
        tree_map(lambda field, i=i: field[i : i + 1], examples) for i in range(len(examples.target))
    ]
    return found


def looked_ahead(
    derivative: TakeGradient, trial: LossInputs, step: Tensor
) -> tuple[ObjectiveGradient, Tensor]:
    """The gradient on batch and memory where the network is after a step on each example of the
    batch, of size `step` [] or [P], and the sum [P] of the gradients that led there.

    This is the first-order hypergradient of the network before the steps (arXiv 2007.13904, alg. 1
    and 2).
    """
    params = trial.params
    path = torch.zeros_like(params)
    for one in one_by_one(trial.batch):
        g, _ = derivative(trial._replace(params=params, batch=one))
        params, path = params - step * g, path + g
    both = concatenate_examples(trial.batch, *trial.memory_batches)
    return derivative(trial._replace(params=params, batch=both)), path
