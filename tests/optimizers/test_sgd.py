import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.optimizers.sgd import sgd


@pytest.mark.parametrize(
    ("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.1)]
)
def test_sgd_is_pytorchs(momentum, weight_decay):
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(5, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(params.clone())
    expected = torch.optim.SGD([parameter], lr=0.3, momentum=momentum, weight_decay=weight_decay)
    optimizer = sgd(momentum, weight_decay)
    state, lr = optimizer.init(params), torch.tensor(0.3, dtype=torch.float64)
    for _ in range(6):
        g = torch.randn(5, generator=generator, dtype=torch.float64)
        params, state = optimizer.update(g, state, params, lr)
        parameter.grad = g.clone()
        expected.step()
        torch.testing.assert_close(params, parameter.detach())
    assert optimizer.is_plain_sgd == (momentum == 0 and weight_decay == 0)


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"`optimizer.momentum` must be in \[0, 1\), found 1.0"):
        sgd(1.0, 0.0)
    with pytest.raises(UserError, match=r"`optimizer.weight_decay` must be non-negative, found -1"):
        sgd(0.0, -1.0)
