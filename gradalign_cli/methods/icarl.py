"""iCaRL: distil the old network's answers, and classify by the nearest mean of exemplars (Rebuffi
et al. 2017, alg. 1-3)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.methods.method import LossInputs, Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.models.losses import mean_over_valid
from gradalign_cli.models.model import Layer, Output

HIDDEN_LOGIT = -1e9  # of a class without exemplars; finite, so that no difference is undefined


class ICaRLState(NamedTuple):
    """old_params: [P] at the end of the last task;  old_logit_mask, task_logit_mask: [outputs] 1
    for the logits that are targets in ended tasks, and in the current task;
    exemplars_per_task_example: [] the number of stored examples over that of the current task;
    head_of_means: [size of the last layer] the mean features of the exemplars in the place of its
    matrix;  means_are_current: [] 1 from the end of a task to the next step, else 0."""

    old_params: Tensor
    old_logit_mask: Tensor
    task_logit_mask: Tensor
    exemplars_per_task_example: Tensor
    head_of_means: Tensor
    means_are_current: Tensor


def class_indicators(target: Tensor, like: Tensor) -> Tensor:
    """1 for the logit of each target [n], else 0, in the shape and type of `like` [n, outputs]."""
    # one_hot has no rule for vmap, and reads the targets
    numbers = torch.arange(like.shape[1], device=target.device)
    return (target[:, None] == numbers).to(like.dtype)


def logit_targets(
    target: Tensor, old_logits: Tensor, old_mask: Tensor, task_mask: Tensor
) -> Tensor:
    """The target [n, outputs] of each sigmoid: the old network's sigmoid for a logit of ended tasks
    alone, else 1 for the right class and 0 for others.

    target: [n];  old_logits: [n, outputs];  the masks: [outputs].
    """
    labels = class_indicators(target, old_logits)
    return torch.where((old_mask > 0) & (task_mask == 0), torch.sigmoid(old_logits), labels)


def head_of_means(features: Tensor, target: Tensor, outputs: int, layer: Layer) -> Tensor:
    """A last layer, flat, whose largest logit is that of the nearest class mean.

    The rows of its matrix are the means, of length 1, of the features [k, F], of length 1, of each
    class; target: [k] the class of each. Between vectors of length 1 the nearest is that with the
    largest dot product. Where the layer has biases, a class without an example is never the answer.
    """
    class_of_example = class_indicators(target, features.new_zeros(len(features), outputs))
    means = normalize(class_of_example.T @ normalize(features, dim=1), dim=1)
    if not layer.has_bias:
        return means.flatten()
    biases = torch.where(class_of_example.any(0), 0.0, HIDDEN_LOGIT).to(features.dtype)
    return torch.cat([means.flatten(), biases])


def icarl_objective(inputs: LossInputs, state: ICaRLState) -> tuple[Tensor, Output]:
    """The mean binary cross-entropy over the logits of all tasks so far and over the examples of
    the task and the exemplars together."""
    (memory_batch,) = inputs.memory_batches
    examples = concatenate_examples(inputs.batch, memory_batch)
    output = inputs.network(inputs.params, inputs.statistics, examples)
    old_examples = examples._replace(noise_keys=())  # the old network drops no units
    old_logits = inputs.network(state.old_params, inputs.statistics, old_examples).logits
    old_mask, task_mask = state.old_logit_mask, state.task_logit_mask
    targets = logit_targets(examples.target, old_logits, old_mask, task_mask)
    counted = torch.maximum(old_mask, task_mask)
    losses = binary_cross_entropy_with_logits(output.logits, targets, reduction="none")
    losses = losses @ (counted / counted.sum())
    batch_size, ratio = len(inputs.batch.target), state.exemplars_per_task_example
    exemplar_loss = mean_over_valid(losses[batch_size:], memory_batch.valid)
    return (losses[:batch_size].mean() + ratio * exemplar_loss) / (1 + ratio), output


def icarl() -> Method:
    """Each logit has a sigmoid, whose target is the label for the classes of the current task and
    the old network's answer for those of ended tasks; tests take the class whose exemplars have the
    nearest mean feature (arXiv 1611.07725).

    The paper shuffles exemplars among the examples of the task. Here a step takes a batch of each,
    weighted by their numbers, which is the same in expectation. Its loss is a sum over logits; as
    in its code and in that of DER it is a mean here. The old network is the one at the end of the
    last task; both networks use the batch's statistics in BatchNorm. Classes that an ended task
    shares with the current one have labels as targets. While a task is trained, tests use logits.
    The method's yaml selects the herding buffer; with `shrinks=true` it is that of the paper.
    """

    def init(setup: MethodSetup) -> ICaRLState:
        zeros, zero = setup.params.new_zeros(setup.outputs), setup.params.new_zeros(())
        head = setup.params.new_zeros(last_layer(setup.layers, setup.outputs).layer.size)
        ones = torch.ones_like(zeros)
        return ICaRLState(setup.params, zeros, ones, zero, head, zero.clone())

    def begin_task(state: ICaRLState, params: Tensor, probe: Probe) -> tuple[ICaRLState, Tensor]:
        ratio = len(probe.filled_slot_indices) / max(len(probe.rows), 1)
        return state._replace(
            task_logit_mask=probe.task_logit_mask,
            exemplars_per_task_example=torch.full_like(state.exemplars_per_task_example, ratio),
        ), params

    def after_step(state: ICaRLState, *_: Tensor) -> ICaRLState:
        return state._replace(means_are_current=torch.zeros_like(state.means_are_current))

    def end_task(state: ICaRLState, params: Tensor, probe: Probe) -> ICaRLState:
        mask = torch.maximum(state.old_logit_mask, probe.task_logit_mask)
        state = state._replace(old_params=params, old_logit_mask=mask)
        if not len(probe.filled_slot_indices):
            return state
        exemplars = probe.memory_examples(probe.filled_slot_indices)
        with torch.no_grad():
            features = probe.network(params, probe.statistics, exemplars).features
        layer, _ = last_layer(probe.layers, len(mask))
        head = head_of_means(features, exemplars.target, len(mask), layer)
        current = torch.ones_like(state.means_are_current)
        return state._replace(head_of_means=head, means_are_current=current)

    def test_params(state: ICaRLState, params: Tensor, task: int, layers: Any) -> Tensor:
        by_means = last_layer(layers, len(state.old_logit_mask)).replace_in(
            params, state.head_of_means
        )
        return torch.where(state.means_are_current > 0, by_means, params)

    return Method(
        keep_gradient,
        objective=icarl_objective,
        memory_batches=1,
        init=init,
        begin_task=begin_task,
        after_step=after_step,
        end_task=end_task,
        test_params=test_params,
        claims=("acts_without_memory",),
    )
