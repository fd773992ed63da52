import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.code_cl import code_cl, free_directions
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.training.replica import new_learner
from tests.methods.test_gpm import three_layer_parts
from tests.runs import make_replicas, steps_of_task, train
from tests.step.test_step import learner_after

DEFAULTS = {
    "aperture": 6.0,
    "coverage": 0.9,
    "least_eigenvalue": 0.2,
    "samples": 20,
    "project_head": False,
    "free_dimensions": 3,
    "overlap_threshold": 0.0,
    "scales_lr": 0.1,
}


def made(**overrides):
    return code_cl(**{**DEFAULTS, **overrides})


def diagonal(*values):
    return torch.diag(torch.tensor(values).double())


@pytest.mark.parametrize("bias", [False, True])
def test_with_a_large_aperture_the_features_of_old_examples_hardly_change(bias, tiny):
    """As with GPM: the conceptor is the projector on their inputs."""
    method = made(aperture=1e3, coverage=0.999, least_eigenvalue=0.0, overlap_threshold=2.0)
    parts = three_layer_parts(tiny, method, bias, samples=8)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    rows = replica.stream.train_rows[0]
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)

    def features_at(params):
        return parts.model.apply(params, params[:0], x, False).features

    expected = features_at(learner.params)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 1)
    torch.testing.assert_close(features_at(after.params), expected, rtol=1e-2, atol=1e-2)
    assert (after.params - learner.params).norm() > 0.003


def test_where_nothing_matters_to_old_tasks_it_is_fine_tuning(tiny):
    parts = three_layer_parts(tiny, made(aperture=1e-3, coverage=0.0))
    learners = train(parts, make_replicas(parts)).learners
    finetuning_parts = parts._replace(method=finetune())
    finetuned = train(finetuning_parts, make_replicas(finetuning_parts)).learners.params
    assert torch.equal(learners.params, finetuned)


def test_the_directions_that_conceptors_share_most_are_free():
    C, B = diagonal(0.9, 0.9, 0.9, 0.0), diagonal(0.0, 0.3, 0.9, 0.9)
    expected = torch.eye(4).double()[:, [2, 1]]
    torch.testing.assert_close(free_directions(C, B, 2, 0.3).abs(), expected)
    shared = 0.9 * 0.9 / (1.8 - 0.81) + 0.9 * 0.3 / (1.2 - 0.27)
    for margin, is_free in ((-1e-6, True), (1e-6, False)):
        assert free_directions(C, B, 2, shared / 2.7 + margin).any() == is_free
    assert not free_directions(C, B, 4, 0.3).any()  # it has no more columns than these
    assert not free_directions(0 * C, B, 2, 0.0).any()


def test_a_task_that_is_alike_learns_scales_and_one_that_is_not_has_none(tiny):
    """The tasks are alike: permutations of the same few inputs."""
    for threshold, learns in ((0.0, True), (10.0, False)):
        parts = three_layer_parts(tiny, made(overlap_threshold=threshold), kind="permuted")
        replica = make_replicas(parts)[0]
        state = learner_after(parts, replica, 2).method_state
        changes = [scaling.change[1].abs().max() for scaling in state.ended_scalings]
        assert (max(changes) > 1e-3) == learns
        assert all(not scaling.basis[0].any() for scaling in state.ended_scalings)  # of task 1


def test_a_task_is_tested_with_its_scales_and_begins_with_the_weights_as_they_are(tiny):
    method = made()
    parts = three_layer_parts(tiny, method, kind="permuted")
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 2)
    state, layers = learner.method_state, parts.model.layers
    tested = [method.test_params(state, learner.params, task, layers) for task in range(3)]
    assert torch.equal(tested[0], learner.params)
    assert not torch.allclose(tested[1], learner.params, atol=1e-4)
    assert torch.equal(tested[2], learner.params)
    assert new_learner(parts, replica).method_state.ended_tasks == 0


def test_conceptors_grow_with_the_tasks(tiny):
    parts = three_layer_parts(tiny, made(), kind="permuted")
    replica = make_replicas(parts)[0]
    before, after = (learner_after(parts, replica, tasks).method_state for tasks in (1, 2))
    for C, D in zip(before.conceptors, after.conceptors, strict=True):
        assert D.trace() > C.trace() > 0


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"aperture": 0.0}, r"in \[1e-6, 1e6\]"),
        ({"aperture": 1e200}, r"in \[1e-6, 1e6\]"),
        ({"coverage": 0.99999}, r"in \[0, 0.9999\]"),
        ({"least_eigenvalue": 1.0}, r"in \[0, 1\)"),
        ({"samples": 0}, "positive"),
        ({"free_dimensions": 0}, "positive"),
        ({"overlap_threshold": -0.1}, "non-negative"),
        ({"scales_lr": -0.1}, "non-negative"),
    ],
)
def test_numbers_out_of_their_domain_are_named(wrong, text):
    with pytest.raises(UserError, match=f"`method.{next(iter(wrong))}` must be {text}"):
        made(**wrong)
