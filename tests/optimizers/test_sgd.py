import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.optimizers.sgd import sgd


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.1)])
def test_sgd_is_pytorchs(momentum, decay):
    source = torch.Generator().manual_seed(0)
    params = torch.randn(5, generator=source, dtype=torch.float64)
    weights = torch.nn.Parameter(params.clone())
    theirs = torch.optim.SGD([weights], lr=0.3, momentum=momentum, weight_decay=decay)
    ours = sgd(momentum, decay)
    state = ours.init(params)
    for _ in range(6):
        g = torch.randn(5, generator=source, dtype=torch.float64)
        params, state = ours.update(g, state, params, torch.tensor(0.3, dtype=torch.float64))
        weights.grad = g.clone()
        theirs.step()
        torch.testing.assert_close(params, weights.detach())
    assert ours.is_plain_sgd == (momentum == 0 and decay == 0)


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"`optimizer.momentum` must be in \[0, 1\), found 1.0"):
        sgd(1.0, 0.0)
    with pytest.raises(UserError, match=r"`optimizer.weight_decay` must be non-negative, found -1"):
        sgd(0.0, -1.0)
