"""The last layer of a network is found among its parameters, wherever it lies."""

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.methods.warm_up import head_logits
from gradalign_cli.models.model import Layer
from tests.models.networks import everything
from tests.runs import normalised, small


@pytest.mark.parametrize("make_network", [small, normalised, everything])
def test_its_parameters_make_the_logits_of_the_features(make_network):
    model, draw = make_network((1, 4, 4), 6), torch.Generator().manual_seed(0)
    params, images = model.init(draw), torch.rand(5, 1, 4, 4, generator=draw)
    layer, place = last = last_layer(model.layers, 6)
    output = model.apply(params, model.initial_statistics, images, False)
    assert output.features.shape == (5, last.feature_count)
    torch.testing.assert_close(head_logits(params[place], output.features, layer), output.logits)


@pytest.mark.parametrize("layers", [[Layer(9, 3, False)], [Layer(6, 0, False)]])
def test_a_network_whose_last_matrix_is_not_that_of_the_logits_is_refused(layers):
    with pytest.raises(UserError, match="`model` must be a network whose last layer gives all log"):
        last_layer(layers, 6)
