import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.optimizers.sgd import sgd
from tests.optimizers.pytorch import LR, assert_follows


@pytest.mark.parametrize(
    ("momentum", "weight_decay", "nesterov"),
    [
        (0.0, 0.0, False),
        (0.9, 0.0, False),
        (0.0, 0.01, False),
        (0.9, 0.1, False),
        (0.9, 0.1, True),
    ],
)
def test_sgd_is_pytorchs(momentum, weight_decay, nesterov):
    optimizer = sgd(momentum, weight_decay, nesterov)
    settings = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    assert_follows(optimizer, lambda parameters: torch.optim.SGD(parameters, lr=LR, **settings))
    assert optimizer.is_plain_sgd == (momentum == 0 and weight_decay == 0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((1.0, 0.0), r"`optimizer.momentum` must be in \[0, 1\), found 1.0"),
        ((0.0, -1.0), "`optimizer.weight_decay` must be non-negative, found -1"),
        ((0.0, 0.0, True), "`optimizer.nesterov` must be false without momentum, found True"),
        ((0.0, 0.0, False, "go"), "`optimizer.at_task_end` must be one of keep, reset, found 'go'"),
    ],
)
def test_values_out_of_range_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        sgd(*settings)
