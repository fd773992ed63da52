import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.optimizers.adam import adam
from tests.optimizers.pytorch import LR, assert_follows


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
def test_adam_is_pytorchs(betas, weight_decay):
    settings = {"betas": betas, "eps": 1e-3, "weight_decay": weight_decay}
    optimizer = adam(*betas, 1e-3, weight_decay, "keep")
    assert_follows(optimizer, lambda parameters: torch.optim.Adam(parameters, lr=LR, **settings))
    assert not optimizer.is_plain_sgd


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((1.0, 0.9, 1e-8, 0.0, "keep"), r"`optimizer.beta1` must be in \[0, 1\), found 1.0"),
        ((0.9, -0.1, 1e-8, 0.0, "keep"), r"`optimizer.beta2` must be in \[0, 1\), found -0.1"),
        ((0.9, 0.9, 0.0, 0.0, "keep"), "`optimizer.eps` must be positive, found 0.0"),
        ((0.9, 0.9, 1e-8, -1.0, "keep"), "`optimizer.weight_decay` must be non-negative"),
        ((0.9, 0.9, 1e-8, 0.0, "go"), "`optimizer.at_task_end` must be one of keep, reset"),
    ],
)
def test_values_out_of_range_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        adam(*settings)
