import pytest
import torch

from gradalign_cli.optimizers.adam import adam
from gradalign_cli.optimizers.adamw import adamw
from tests.optimizers.pytorch import LR, assert_follows


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_pytorchs(weight_decay):
    settings = {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": weight_decay}
    optimizer = adamw(0.8, 0.9, 1e-3, weight_decay, "keep")
    assert_follows(optimizer, lambda parameters: torch.optim.AdamW(parameters, lr=LR, **settings))


def test_weight_decay_does_not_go_through_the_moments():
    params, g = torch.ones(3), torch.tensor([1.0, 0.0, -1.0])
    plain, decayed = adam(0.9, 0.99, 1e-8, 0.0, "keep"), adamw(0.9, 0.99, 1e-8, 0.5, "keep")
    update, moments = plain.update(g, plain.init(params), params)
    decayed_update, decayed_moments = decayed.update(g, decayed.init(params), params)
    torch.testing.assert_close(decayed_update, update + 0.5 * params)
    assert all(torch.equal(*pair) for pair in zip(moments, decayed_moments, strict=True))
