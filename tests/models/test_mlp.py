import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.models.mlp import mlp


def test_the_network_is_the_one_of_pytorchs_layers():
    model = mlp([5, 4], "torch", (1, 2, 3), 2)
    params = model.init(torch.Generator().manual_seed(0))
    layers = [torch.nn.Linear(*sizes) for sizes in ((6, 5), (5, 4), (4, 2))]
    tensors = [t for layer in layers for t in (layer.weight, layer.bias)]
    for target, part in zip(tensors, params.split([t.numel() for t in tensors]), strict=True):
        target.data.copy_(part.view_as(target))
    x = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    features = torch.relu(layers[1](torch.relu(layers[0](x.flatten(1)))))
    output = model.apply(params, model.statistics, x, True)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.logits, layers[2](features))


@pytest.mark.parametrize(
    ("init", "variance"), [("xavier", 2 / 700), ("torch", 1 / 1200), ("truncated_normal", 0.00774)]
)
def test_first_weights_have_the_variance_of_their_rule(init, variance):
    params = mlp([300], init, (1, 20, 20), 3).init(torch.Generator().manual_seed(0))
    first = params[: 300 * 400]
    assert float(first.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(first.mean())) < 0.01 * variance**0.5
    bias = params[300 * 400 : 300 * 400 + 300]
    assert (bias == {"xavier": 0.0, "truncated_normal": 0.1}.get(init, bias)).all()


def test_widths_and_rules_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"`model.widths` must be positive, found \[0\]"):
        mlp([0], "torch", (1, 2, 2), 2)
    with pytest.raises(UserError, match=r"`model.init` must be one of xavier"):
        mlp([2], "zeros", (1, 2, 2), 2)
