import torch

from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_stack


def test_trees_are_padded_with_zeros_at_the_end_and_keep_their_values():
    first = torch.tensor([[1.0, 2.0]]), (torch.tensor(3), torch.ones(2, 0, 1, dtype=torch.bool))
    second = torch.tensor([[4.0], [5.0]]), (torch.tensor(6), torch.ones(2, 3, 1, dtype=torch.bool))
    x, (n, b) = tree_stack(pad_to_common_shapes([first, second]))
    assert x.tolist() == [[[1, 2], [0, 0]], [[4, 0], [5, 0]]]
    assert n.tolist() == [3, 6]
    assert b.shape == (2, 2, 3, 1)
    assert not b[0].any()
    assert b[1].all()


def test_trees_of_equal_shapes_are_not_changed():
    trees = [(torch.randn(2, 3), torch.randn(4)) for _ in range(3)]
    for padded, tree in zip(pad_to_common_shapes(trees), trees, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(padded, tree, strict=True))
