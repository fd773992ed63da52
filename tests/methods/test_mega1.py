import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.mega1 import mega1
from tests.methods.given import align

G, R = torch.tensor([1.0, -1.0]), torch.tensor([[2.0, 4.0]])


def test_the_reference_counts_as_much_as_the_losses_say():
    direction = align(mega1(1e-3, "paper"), G, R, loss=2.0, ref_losses=[0.5])
    assert direction.tolist() == [1.5, 0.0]


def test_once_the_task_is_learned_the_reference_is_followed_alone():
    assert align(mega1(0.1, "paper"), G, R, loss=0.05, ref_losses=[3.0]).tolist() == [2.0, 4.0]


def test_the_published_code_asks_about_the_memory_instead():
    direction = align(mega1(0.1, "code"), G, R, loss=0.05, ref_losses=[0.2])
    assert direction.tolist() == pytest.approx([9.0, 15.0])
    assert align(mega1(0.1, "code"), G, R, loss=5.0, ref_losses=[0.05]).tolist() == [2.0, 4.0]


def test_an_empty_memory_leaves_the_gradient_alone():
    unseen = torch.tensor([False])
    assert torch.equal(align(mega1(0.1, "paper"), G, 0 * R, seen=unseen, loss=0.0), G)


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.rule` must be one of paper, code, found 'mine'"):
        mega1(0.1, "mine")
