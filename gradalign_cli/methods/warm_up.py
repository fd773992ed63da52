"""Warm-up: the logits of new classes are trained alone, on features that stay as they are, before a
task (Li & Hoiem 2016, sec. 3)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.methods.method import Probe
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.generators import permutation


def head_logits(head: Tensor, features: Tensor, layer: Layer) -> Tensor:
    """The logits [n, outputs] that a last layer, flat, makes of features [n, F]."""
    outputs = layer.matrix_rows
    biases = head[layer.size - outputs * layer.has_bias :] if layer.has_bias else 0.0
    matrix = head[: layer.size - outputs * layer.has_bias].view(outputs, -1)
    return features @ matrix.T + biases


def with_trained_new_logits(
    params: Tensor, new_logit_mask: Tensor, probe: Probe, lr: float, passes: int, batch_size: int
) -> Tensor:
    """The parameters [P] after SGD, in the last layer, on the cross-entropy of a task's examples
    whose softmax is over its new logits alone.

    new_logit_mask: [outputs] 1 for logits that no ended task has as targets. Examples of other
    classes are left out. The rows of other logits get no gradient.
    """
    last = last_layer(probe.layers, len(new_logit_mask))
    source = torch.Generator().manual_seed(probe.task)
    head, hidden = params[last.place], new_logit_mask == 0

    def loss(head: Tensor, features: Tensor, target: Tensor) -> Tensor:
        logits = head_logits(head, features, last.layer).masked_fill(hidden, -torch.inf)
        return cross_entropy(logits, target)

    for _ in range(passes):
        order = permutation(len(probe.rows), source).to(probe.rows.device)
        for batch_rows in probe.rows[order].split(batch_size):
            examples = probe.examples(batch_rows)
            is_new = new_logit_mask[examples.target] > 0
            if not is_new.any():
                continue
            with torch.no_grad():
                features = probe.network(params, probe.statistics, examples).features
            gradient = torch.func.grad(loss)(head, features[is_new], examples.target[is_new])
            head = head - lr * gradient
    return last.replace_in(params, head)
