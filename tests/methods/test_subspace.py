import torch

from gradalign_cli.methods.subspace import (
    append,
    columns_to_add,
    flat,
    matrix,
    project,
    rank_needed,
    representation,
)
from gradalign_cli.models.model import Layer


def data(d=10, n=30, seed=0):
    source = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, d)[:, None]
    return (scale * torch.randn(d, n, generator=source)).double()


def test_a_bias_is_a_column_for_an_input_that_is_always_one():
    layer = Layer(3 * 4 + 3, 3, True)
    part, x = torch.randn(15), torch.randn(5, 4)
    out = x @ part[:12].view(3, 4).T + part[12:]
    torch.testing.assert_close((matrix(part, layer) @ representation(x, layer)).T, out)
    assert torch.equal(flat(matrix(part, layer), layer), part)


def test_the_rank_is_the_smallest_that_holds_the_threshold():
    values = torch.tensor([3.0, 2.0, 1.0])  # energies 9, 4, 1
    assert [rank_needed(values, 0.0, 14.0, t) for t in (0.6, 9 / 14, 0.7, 13 / 14, 1.0)] == [
        1, 1, 2, 2, 3,
    ]  # fmt: skip
    assert rank_needed(values, 13.5, 27.5, 0.49) == 0


def test_columns_hold_the_threshold_of_the_energy_and_one_fewer_does_not():
    R, M = data(), torch.zeros(10, 10).double()
    for threshold in (0.5, 0.9, 0.99):
        new, _ = columns_to_add(M, R, threshold, False)
        assert (new.T @ R).square().sum() >= threshold * R.square().sum() * (1 - 1e-5)
        assert (new[:, :-1].T @ R).square().sum() < threshold * R.square().sum()
        assert columns_to_add(M, R, threshold, True)[0].shape[1] == new.shape[1] - 1


def test_a_second_task_adds_only_what_the_first_does_not_hold():
    M, weight = torch.zeros(10, 0).double(), torch.zeros(0).double()
    one, two = data(), data(seed=1)
    first, _ = columns_to_add(M, one, 0.9, False)
    M, weight = append(M, weight, first, torch.ones_like(first[0]))
    new, _ = columns_to_add(M, two, 0.95, False)
    assert (M.T @ new).abs().max() < 1e-10
    M, _ = append(M, weight, new, torch.ones_like(new[0]))
    assert (M.T @ two).square().sum() >= 0.95 * two.square().sum() * (1 - 1e-5)
    again, _ = columns_to_add(M, two, 0.95, False)
    assert again.shape[1] == 0


def test_a_basis_cannot_grow_beyond_its_space():
    M, weight = torch.zeros(4, 0).double(), torch.zeros(0).double()
    for seed in range(3):
        new, _ = columns_to_add(M, data(4, 9, seed), 1.0, False)
        M, weight = append(M, weight, new, torch.ones_like(new[0]))
    assert weight.tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(M @ M.T, torch.eye(4).double())


def test_projected_gradients_are_orthogonal_to_the_basis_and_what_has_no_matrix_stays():
    layers = (Layer(12, 3, False), Layer(5, 0, False), Layer(8, 2, False))
    M = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64))[0]
    M = torch.cat([M, torch.zeros(4, 2).double()], 1)
    g = torch.randn(25, dtype=torch.float64)
    found = project(
        g, layers, (M,), (torch.tensor([1.0, 1.0, 0.0, 0.0]).double(),), torch.tensor(1)
    )
    assert (found[:12].view(3, 4) @ M).abs().max() < 1e-12
    assert (found[12:17] == 0).all()  # scales and shifts rest once a task has ended
    assert torch.equal(found[17:], g[17:])
    first = project(g, layers, (0 * M,), (torch.zeros(4).double(),), torch.tensor(0))
    assert torch.equal(first, g)
