import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import MethodSetup
from gradalign_cli.methods.subspace import (
    append_columns,
    columns_to_add,
    flatten_layer_matrix,
    layer_matrix,
    needed_rank,
    project_off_bases,
    representation_matrix,
)
from gradalign_cli.models.model import Layer
from tests.methods.catalogue import method

OF_INPUTS = ["gpm", "sgp", "trgp", "cuber", "dfgp", "code_cl", "owm", "adam_nscl", "fs_dgpm"]


def random_representation(d=10, n=30, seed=0):
    """R [d, n] with rows of falling size."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -2, d)[:, None]
    return (scales * torch.randn(d, n, generator=generator)).double()


def test_a_bias_is_a_column_for_an_input_that_is_always_one():
    layer = Layer(3 * 4 + 3, 3, True)
    layer_vector, x = torch.randn(15), torch.randn(5, 4)
    outputs = x @ layer_vector[:12].view(3, 4).T + layer_vector[12:]
    matrix = layer_matrix(layer_vector, layer)
    torch.testing.assert_close((matrix @ representation_matrix(x, layer)).T, outputs)
    assert torch.equal(flatten_layer_matrix(matrix, layer), layer_vector)


def test_the_needed_rank_is_the_smallest_that_holds_the_threshold():
    singular_values = torch.tensor([3.0, 2.0, 1.0])  # energies 9, 4, 1
    thresholds = (0.6, 9 / 14, 0.7, 13 / 14, 1.0)
    ranks = [needed_rank(singular_values, 0.0, 14.0, threshold) for threshold in thresholds]
    assert ranks == [1, 1, 2, 2, 3]
    assert needed_rank(singular_values, 13.5, 27.5, 0.49) == 0


def test_columns_hold_the_threshold_of_the_energy_and_one_fewer_does_not():
    R, M = random_representation(), torch.zeros(10, 10).double()
    energy = R.square().sum()
    for threshold in (0.5, 0.9, 0.99):
        columns, _ = columns_to_add(M, R, threshold, False)
        assert (columns.T @ R).square().sum() >= threshold * energy * (1 - 1e-5)
        assert (columns[:, :-1].T @ R).square().sum() < threshold * energy
        one_column_fewer, _ = columns_to_add(M, R, threshold, True)
        assert one_column_fewer.shape[1] == columns.shape[1] - 1


def test_a_second_task_adds_only_what_the_basis_does_not_hold():
    first_R, second_R = random_representation(), random_representation(seed=1)
    M, _ = columns_to_add(torch.zeros(10, 0).double(), first_R, 0.9, False)
    columns, _ = columns_to_add(M, second_R, 0.95, False)
    assert (M.T @ columns).abs().max() < 1e-10
    M = torch.cat([M, columns], 1)
    energy = second_R.square().sum()
    assert (M.T @ second_R).square().sum() >= 0.95 * energy * (1 - 1e-5)
    columns, _ = columns_to_add(M, second_R, 0.95, False)
    assert columns.shape[1] == 0


def test_columns_are_put_in_place_of_the_columns_of_zeros():
    M, columns = torch.eye(4).double()[:, :1], torch.eye(4).double()[:, 1:3]
    padded, padded_importance = torch.cat([M, 0 * columns], 1), torch.tensor([0.5, 0.0, 0.0])
    basis, importance = append_columns(padded, padded_importance, columns, torch.ones(2))
    assert torch.equal(basis, torch.cat([M, columns], 1))
    assert importance.tolist() == [0.5, 1, 1]


def test_a_basis_cannot_grow_beyond_its_space():
    M = torch.zeros(4, 0).double()
    for seed in range(3):
        columns, _ = columns_to_add(M, random_representation(4, 9, seed), 1.0, False)
        M = torch.cat([M, columns], 1)
    assert M.shape == (4, 4)
    torch.testing.assert_close(M @ M.T, torch.eye(4).double())


def test_projected_gradients_are_orthogonal_to_the_basis():
    layers = (Layer(12, 3, False), Layer(5, 0, False), Layer(8, 2, False))
    M = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64))[0]
    M = torch.cat([M, torch.zeros(4, 2).double()], 1)
    importance = torch.tensor([1.0, 1.0, 0.0, 0.0]).double()
    g = torch.randn(25, dtype=torch.float64)
    projected = project_off_bases(g, layers, (M,), (importance,), torch.tensor(1))
    assert (projected[:12].view(3, 4) @ M).abs().max() < 1e-12
    assert (projected[12:17] == 0).all()  # scales and shifts, once a task has ended
    assert torch.equal(projected[17:], g[17:])  # a layer without a basis
    unprojected = project_off_bases(g, layers, (0 * M,), (0 * importance,), torch.tensor(0))
    assert torch.equal(unprojected, g)


@pytest.mark.parametrize("name", [*OF_INPUTS, "gpcns"])
def test_a_network_of_one_layer_has_none_to_project_beside_its_head(name):
    setup = MethodSetup(torch.zeros(6), 2, 2, (Layer(6, 2, True),))
    assert method(name, project_head=True).init(setup) is not None
    with pytest.raises(UserError, match=r"`method\.project_head` must be true where the network"):
        method(name, project_head=False).init(setup)


@pytest.mark.parametrize("name", OF_INPUTS)
def test_a_model_that_hides_the_inputs_of_its_layers_is_refused_before_training(name):
    setup = MethodSetup(torch.zeros(6), 2, 2, (Layer(6, 2, True),), has_layer_inputs=False)
    with pytest.raises(UserError, match="needs the inputs of every layer"):
        method(name).init(setup)
