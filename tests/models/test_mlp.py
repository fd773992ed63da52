import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.models.mlp import mlp


def test_the_mlp_agrees_with_pytorchs_layers():
    model = mlp([5, 4], "torch", True, (1, 2, 3), 2)
    params = model.init(torch.Generator().manual_seed(0))
    layers = [torch.nn.Linear(*sizes) for sizes in ((6, 5), (5, 4), (4, 2))]
    tensors = [t for layer in layers for t in (layer.weight, layer.bias)]
    for target, part in zip(tensors, params.split([t.numel() for t in tensors]), strict=True):
        target.data.copy_(part.view_as(target))
    x = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    features = torch.relu(layers[1](torch.relu(layers[0](x.flatten(1)))))
    output = model.apply(params, model.initial_statistics, x, True)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.logits, layers[2](features))


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("xavier", 2 / 700),
        ("torch", 1 / 1200),
        ("torch_weights", 1 / 1200),
        ("truncated_normal", 0.00774),
    ],
)
def test_initial_weights_have_the_variance_of_their_rule(init, variance):
    params = mlp([300], init, True, (1, 20, 20), 3).init(torch.Generator().manual_seed(0))
    weight = params[: 300 * 400]
    assert float(weight.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(weight.mean())) < 0.01 * variance**0.5
    bias = params[300 * 400 : 300 * 400 + 300]
    constant = {"xavier": 0.0, "torch_weights": 0.0, "truncated_normal": 0.1}
    assert (bias == constant.get(init, bias)).all()


def test_widths_and_inits_out_of_their_domain_are_refused():
    with pytest.raises(UserError, match=r"`model.widths` must be positive, found \[0\]"):
        mlp([0], "torch", True, (1, 2, 2), 2)
    with pytest.raises(UserError, match=r"`model.init` must be one of xavier"):
        mlp([2], "zeros", True, (1, 2, 2), 2)


def test_without_biases_the_parameters_are_the_matrices():
    model = mlp([5, 4], "torch", False, (1, 2, 3), 2)
    params = model.init(torch.Generator().manual_seed(0))
    assert len(params) == 5 * 6 + 4 * 5 + 2 * 4 == sum(layer.size for layer in model.layers)
    x = torch.randn(3, 1, 2, 3)
    assert torch.equal(model.apply(params, params[:0], 0 * x, True).logits, torch.zeros(3, 2))


@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_of_a_layer_lies_in_the_span_of_its_inputs(bias):
    model = mlp([5, 4], "torch", bias, (1, 2, 3), 2)
    params = model.init(torch.Generator().manual_seed(0)).requires_grad_()
    x = torch.randn(2, 1, 2, 3)
    inputs = model.layer_inputs(params, params[:0], x)
    (g,) = torch.autograd.grad(
        model.apply(params, params[:0], x, True).logits.square().sum(), params
    )
    for part, layer, layer_inputs in zip(
        g.split([layer.size for layer in model.layers]), model.layers, inputs, strict=True
    ):
        matrix = part[: layer.size - layer.matrix_rows * bias].view(layer.matrix_rows, -1)
        span = torch.linalg.pinv(layer_inputs) @ layer_inputs
        torch.testing.assert_close(matrix @ span, matrix, rtol=1e-3, atol=1e-4)
