import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.ogd import ogd
from gradalign_cli.methods.pca_ogd import pca_ogd, principal_directions
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas


def test_principal_directions_are_right_singular_vectors():
    vectors = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).double()
    directions = principal_directions(vectors, 4)
    expected = torch.linalg.svd(vectors).Vh[:4]
    torch.testing.assert_close((directions @ expected.T).abs(), torch.eye(4).double())


def test_no_random_directions_hold_more_of_the_gradients():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 9, generator=generator).double() * torch.arange(1, 10)
    energy = (vectors @ principal_directions(vectors, 3).T).square().sum()
    for _ in range(50):
        random_columns = torch.linalg.qr(torch.randn(9, 3, generator=generator).double())[0]
        assert (vectors @ random_columns).square().sum() <= energy


def state_after_first_task(parts):
    """The method's state at the end of the first task, without a step."""
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    probe = make_probe(parts, learner, replica.stream.view, replica.stream.train_rows[0], 0)
    return parts.method.end_task(learner.method_state, learner.params, probe)


def test_with_as_many_directions_as_gradients_it_is_ogd(tiny):
    projectors = []
    for method in (pca_ogd(6, 6), ogd(6, "label")):
        basis = state_after_first_task(make_parts(tiny, method)).basis
        projectors.append(basis.T @ basis)
    torch.testing.assert_close(*projectors, rtol=0, atol=1e-4)


def test_fewer_samples_than_directions_are_refused():
    with pytest.raises(
        UserError, match=r"`method.samples` must be at least method.gradients_per_task"
    ):
        pca_ogd(10, 5)
