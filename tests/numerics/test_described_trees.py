"""Trees as JSON and tensors come back in every bit, and lie in memory as they did."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch

from gradalign_cli.numerics.described_trees import DescribedTree, describe_tree, rebuild_tree


class Pair(NamedTuple):
    left: object
    right: object


def there_and_back(tree, template=None):
    """The tree, rebuilt from what JSON keeps of its description."""
    description, tensors = describe_tree(tree)
    return rebuild_tree(DescribedTree(json.loads(json.dumps(description)), tensors), template)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).view(2, 3),
        torch.arange(6.0).view(2, 3).T,
        torch.arange(12.0).view(3, 4)[:, 1],
        torch.arange(12.0)[5:9],
        torch.tensor(3.0).expand(2, 5),
        torch.zeros(2, 0, 3),
        torch.zeros(0).expand(4, 0),
        torch.tensor(7),
        torch.tensor([True, False]),
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([float("nan"), float("inf"), -0.0]),
        torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    ],
)
def test_a_tensor_keeps_its_type_numbers_and_layout(tensor):
    back = there_and_back(tensor)
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    if tensor.numel():
        assert back.stride() == tensor.stride()
    torch.testing.assert_close(back, tensor, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(back.signbit(), tensor.signbit())


def test_named_tuples_come_from_the_template_also_in_longer_tuples():
    tree = Pair((Pair(1, ()), Pair(2.5, "a"), Pair(None, [True])), {"b": np.arange(3)})
    back = there_and_back(tree, Pair((Pair(0, 0),), None))
    assert isinstance(back, Pair)
    assert back.left == tree.left
    assert all(isinstance(pair, Pair) for pair in back.left)
    np.testing.assert_array_equal(back.right["b"], np.arange(3))


def test_numbers_that_are_not_finite_and_long_ones_come_back():
    numbers = [float("inf"), -float("inf"), 0.1 + 0.2, 2**62 + 1]
    assert there_and_back(numbers) == numbers


def test_another_named_tuple_in_its_place_is_refused():
    with pytest.raises(ValueError, match="no fields left, right"):
        there_and_back(Pair(1, 2), ())


def test_a_value_that_is_no_plain_one_has_no_description():
    with pytest.raises(TypeError, match="set has no description"):
        describe_tree({1})
