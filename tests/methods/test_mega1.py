import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.mega1 import mega1
from tests.methods.given import align

G, REFERENCES = torch.tensor([1.0, -1.0]), torch.tensor([[2.0, 4.0]])


def test_the_reference_is_weighted_by_the_ratio_of_the_losses():
    direction = align(mega1(1e-3, "paper"), G, REFERENCES, loss=2.0, reference_losses=[0.5])
    assert direction.tolist() == [1.5, 0.0]


def test_once_the_task_is_learned_the_direction_is_the_reference():
    direction = align(mega1(0.1, "paper"), G, REFERENCES, loss=0.05, reference_losses=[3.0])
    assert direction.tolist() == [2.0, 4.0]


def test_the_published_code_compares_the_loss_on_memory_instead():
    direction = align(mega1(0.1, "code"), G, REFERENCES, loss=0.05, reference_losses=[0.2])
    assert direction.tolist() == pytest.approx([9.0, 15.0])
    direction = align(mega1(0.1, "code"), G, REFERENCES, loss=5.0, reference_losses=[0.05])
    assert direction.tolist() == [2.0, 4.0]


def test_with_eps_zero_only_a_loss_of_zero_counts_as_learned():
    for loss, expected in ((1e-9, [1e9 * 2 + 1, 1e9 * 4 - 1]), (0.0, [2.0, 4.0])):
        direction = align(mega1(0.0, "paper"), G, REFERENCES, loss=loss, reference_losses=[1.0])
        assert direction.tolist() == pytest.approx(expected)


def test_the_published_codes_direction_is_finite_where_the_loss_is_zero():
    direction = align(mega1(0.1, "code"), G, REFERENCES, loss=0.0, reference_losses=[0.2])
    assert direction.isfinite().all()


def test_with_an_empty_memory_the_direction_is_the_gradient():
    available = torch.tensor([False])
    direction = align(mega1(0.1, "paper"), G, 0 * REFERENCES, available=available, loss=0.0)
    assert torch.equal(direction, G)


def test_wrong_values_are_refused():
    with pytest.raises(
        UserError, match=r"`method.variant` must be one of paper, code, found 'mine'"
    ):
        mega1(0.1, "mine")
    with pytest.raises(UserError, match=r"`method.eps` must be non-negative, found -0.1"):
        mega1(-0.1, "paper")
