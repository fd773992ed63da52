"""The last layer of a network, for methods that replace or train it alone."""

from gradalign_cli.errors import require
from gradalign_cli.methods.method import MethodSetup
from gradalign_cli.models.model import Layer


def last_layer(setup: MethodSetup) -> Layer:
    """The last layer. Raises UserError where it does not give all logits, as in a progressive
    network."""
    layer = setup.layers[-1]
    domain = "a network whose last layer gives all logits, for this `method`"
    require(layer.matrix_rows == setup.outputs, "model", domain, "another")
    return layer


def feature_count(layer: Layer) -> int:
    """How many inputs a last layer has."""
    return layer.size // layer.matrix_rows - layer.has_bias
