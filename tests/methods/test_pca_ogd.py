import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.ogd import ogd
from gradalign_cli.methods.pca_ogd import main_directions, pca_ogd
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas


def test_main_directions_are_right_singular_vectors():
    vectors = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).double()
    found = main_directions(vectors, 4)
    expected = torch.linalg.svd(vectors).Vh[:4]
    torch.testing.assert_close((found @ expected.T).abs(), torch.eye(4).double())


def test_no_other_directions_hold_more_of_the_gradients():
    source = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 9, generator=source).double() * torch.arange(1, 10)
    held = (vectors @ main_directions(vectors, 3).T).square().sum()
    for _ in range(50):
        other = torch.linalg.qr(torch.randn(9, 3, generator=source).double())[0]
        assert (vectors @ other).square().sum() <= held


def ended(parts):
    """The state after the first task."""
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    probe = make_probe(parts, learner, replica.stream.view, replica.stream.train_rows[0], 0)
    return parts.method.end_task(learner.method_state, learner.params, probe)


def test_with_as_many_directions_as_gradients_it_is_ogd(tiny):
    bases = [ended(make_parts(tiny, made)).basis for made in (pca_ogd(6, 6), ogd(6, "label"))]
    first, second = (basis.T @ basis for basis in bases)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


def test_fewer_samples_than_directions_are_refused():
    with pytest.raises(UserError, match=r"`method.samples` must be at least method.per_task"):
        pca_ogd(10, 5)
