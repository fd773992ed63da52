"""The last layer of a network, for methods that replace or train it alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.models.model import Layer


class LastLayer(NamedTuple):
    """layer: the last one with a matrix;  place: of its parameters in those of the network, where
    others may follow it, as the scales and shifts of a convnet's BatchNorm do."""

    layer: Layer
    place: slice

    @property
    def feature_count(self) -> int:
        """How many inputs the layer has."""
        return self.layer.size // self.layer.matrix_rows - self.layer.has_bias

    def replace_in(self, params: Tensor, head: Tensor) -> Tensor:
        """The parameters [P] of a network with those of its last layer, `head`."""
        return torch.cat([params[: self.place.start], head, params[self.place.stop :]])


def last_layer(layers: Sequence[Layer], outputs: int) -> LastLayer:
    """The last layer of a network with these layers. Raises UserError where it does not give all
    `outputs` logits, as in a progressive network."""
    number = max((k for k, layer in enumerate(layers) if layer.matrix_rows), default=0)
    layer, start = layers[number], sum(earlier.size for earlier in layers[:number])
    domain = "a network whose last layer gives all logits, for this `method`"
    require(layer.matrix_rows == outputs, "model", domain, "another")
    return LastLayer(layer, slice(start, start + layer.size))
