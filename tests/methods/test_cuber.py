import pytest
import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.cuber import best_joinable_task_mask
from gradalign_cli.methods.subspace import representation_matrices
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.trees import pad_to_shape
from tests.methods.catalogue import method
from tests.methods.test_trgp import gradient_before_task, random_basis
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def joined_tasks(G, M, masks, task_gradients, trust_threshold=0.5, correlation_threshold=0.5):
    """The mask of `best_joinable_task_mask` as a list, for gradients [rows, d] of two old tasks."""
    coordinates = torch.stack(task_gradients) @ M * masks[:, None]
    thresholds = trust_threshold, correlation_threshold
    return best_joinable_task_mask(G, M, masks, coordinates, *thresholds).tolist()


def test_an_old_task_is_joined_where_the_gradients_agree_within_its_space():
    M = random_basis(6, 4)
    masks = torch.eye(2).double().repeat_interleave(2, 1)  # two columns each
    generator = torch.Generator().manual_seed(0)
    C, random_gradient = (torch.randn(4, d, generator=generator).double() for d in (2, 6))
    S = M[:, 2:]
    G = C @ S.T
    # what a gradient is outside the space does not count
    outside = random_gradient - random_gradient @ S @ S.T
    zero = torch.zeros(4, 6).double()
    assert joined_tasks(G, M, masks, [zero, 3 * G + outside]) == [False, True]
    assert joined_tasks(G, M, masks, [zero, outside - G]) == [False, False]
    assert joined_tasks(G, M, masks, [zero, zero]) == [False, False]
    assert joined_tasks(0 * G, M, masks, [zero, G]) == [False, False]
    # the space holds sqrt(1 / 2) of the norm of this one
    half_outside = G + outside * G.norm() / outside.norm()
    for threshold, joins in ((0.70, True), (0.71, False)):
        joined = joined_tasks(half_outside, M, masks, [zero, G], trust_threshold=threshold)
        assert joined == [False, joins]


def test_only_the_task_that_agrees_most_is_joined_and_only_above_the_cosine():
    M, masks = torch.eye(3).double(), torch.ones(2, 3).double()
    G = torch.tensor([[1.0, 0.0, 0.0]]).double()
    gradients = list(torch.tensor([[[3.0, 4.0, 0.0]], [[4.0, 0.0, 3.0]]]).double())
    assert joined_tasks(G, M, masks, gradients) == [False, True]
    assert joined_tasks(G, M, masks, gradients[::-1]) == [True, False]
    for threshold, joins in ((0.79, True), (0.81, False)):
        joined = joined_tasks(G, M, masks, gradients, correlation_threshold=threshold)
        assert joined == [False, joins]


def test_with_a_correlation_that_no_cosine_exceeds_it_is_trgp(tiny):
    settings = {"trust_threshold": 0.3, "thresholds": [0.8]}
    unjoined, trgp, joined = (
        train(parts, make_replicas(parts))
        for parts in (
            make_parts(tiny, each_method, samples=20)
            for each_method in (
                method("cuber", correlation_threshold=1.0, **settings),
                method("trgp", **settings),
                method("cuber", correlation_threshold=-1.0, **settings),
            )
        )
    )
    assert torch.equal(unjoined.learners.params, trgp.learners.params)
    assert (unjoined.accuracy == trgp.accuracy).all()
    assert not torch.allclose(joined.learners.params, trgp.learners.params)


def test_the_weights_change_along_the_inputs_of_the_joined_task_only(tiny):
    """Four examples of each task span four of the first layer's seventeen inputs."""
    joining = method("cuber", trust_threshold=0.0, thresholds=[1.0], correlation_threshold=-1.0)
    parts = make_parts(tiny, joining, kind="permuted", samples=4)
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 2)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 2)
    change = (after.params - start.params)[: 8 * 16 + 8]
    W_change = torch.cat([change[:128].view(8, 16), change[128:, None]], 1)
    # of two tasks, a basis without one holds the inputs of the other
    task_inputs = start.method_state.bases_without_each_task[0][[1, 0]]
    change_within = (W_change @ task_inputs).flatten(1).norm(dim=1)
    (joined_task,) = (change_within > 1e-3).nonzero()[:, 0].tolist()  # one of the two
    other_task = 1 - joined_task
    assert change_within[other_task] < 1e-6
    basis_without_joined = start.method_state.bases_without_each_task[0][joined_task]
    assert torch.equal(after.method_state.bases_projected_off[0], basis_without_joined)
    # the joined task is not trusted as well
    trgp_state = start.method_state.trgp
    mask = trgp_state.space_masks[0][other_task]
    assert torch.equal(after.method_state.trgp.trust_counts[0], torch.outer(mask, mask))


def inputs_of_task(parts, replica, learner, task):
    """The representations [d, n] of an ended task in each layer, as it is tested."""
    params = parts.method.test_params(
        learner.method_state, learner.params, task, parts.model.layers
    )
    rows = replica.stream.train_rows[task]
    view = replica.stream.view
    images = load_examples(parts.benchmark, view, rows, torch.tensor([task])).images
    layer_inputs = parts.model.layer_inputs(params, learner.statistics, images)
    return representation_matrices(layer_inputs, parts.model.layers)


def test_a_basis_without_a_task_spans_the_inputs_of_exactly_the_other_tasks(tiny):
    parts = make_parts(tiny, method("cuber", thresholds=[1.0]), kind="permuted", samples=4)
    replica = make_replicas(parts)[0]
    learners = [learner_after(parts, replica, ended) for ended in (1, 2)]
    second_end = learners[1].method_state
    for task, learner in enumerate(learners):
        representations = inputs_of_task(parts, replica, learner, task)
        for R, bases in zip(representations, second_end.bases_without_each_task, strict=True):
            M = bases[1 - task]
            torch.testing.assert_close(M @ M.T, R @ torch.linalg.pinv(R), rtol=0, atol=1e-3)
            assert (bases[2] == 0).all()  # the third task has not ended
    third_end = learner_after(parts, replica, 3).method_state
    for M, bases in zip(second_end.trgp.bases, third_end.bases_without_each_task, strict=True):
        assert torch.equal(bases[2], pad_to_shape(M, bases[2].shape))


def repeat_first_task(replica):
    """The replica with its first task three times."""
    stream, pixel_source = replica.stream, replica.stream.view.pixel_source
    view = stream.view._replace(pixel_source=pixel_source[:1].expand_as(pixel_source).clone())
    train_rows = stream.train_rows[:1] * 3
    return replica._replace(stream=stream._replace(train_rows=train_rows, view=view))


def first_task_loss(parts, replica, learner):
    """The mean cross-entropy on the training examples of the first task, as it is tested."""
    params = parts.method.test_params(learner.method_state, learner.params, 0, parts.model.layers)
    examples = load_examples(
        parts.benchmark, replica.stream.view, replica.stream.train_rows[0], torch.tensor([0])
    )
    logits = parts.model.apply(params, params[:0], examples.images, False).logits
    return float(cross_entropy(logits, examples))


@pytest.mark.parametrize(("name", "gains"), [("cuber", True), ("trgp", False)])
def test_a_repeated_task_gains_with_cuber_and_not_with_trgp(name, gains, tiny):
    parts = make_parts(tiny, method(name, thresholds=[1.0], scales_lr=0.0), kind="permuted")
    replica = repeat_first_task(make_replicas(parts)[0])
    start = learner_after(parts, replica, 1)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1, batch=20)
    gain = first_task_loss(parts, replica, start) - first_task_loss(parts, replica, after)
    assert gain > 0.01 if gains else abs(gain) < 1e-4


def test_a_task_chooses_whom_it_joins_before_its_first_step_and_keeps_to_it(tiny):
    settings = {"trust_threshold": 0.0, "thresholds": [0.9], "correlation_threshold": -1.0}
    parts = make_parts(tiny, method("cuber", samples=7, **settings), kind="permuted")
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 2)
    state = learner.method_state
    steps = list(steps_of_task(parts, replica, learner, 2))
    for layer, G in enumerate(gradient_before_task(parts, replica, learner, 2, 7)):
        M, masks = state.trgp.bases[layer], state.trgp.space_masks[layer]
        joined = best_joinable_task_mask(G, M, masks, state.task_gradients[layer], 0.0, -1.0)
        assert joined.any()
        expected = state.bases_without_each_task[layer][joined][0]
        for before, *_, after, _ in steps:
            for each in (before, after):
                assert torch.equal(each.method_state.bases_projected_off[layer], expected)
    assert not torch.equal(expected, state.bases_projected_off[layer])


@pytest.mark.parametrize(
    ("name", "value"), [("correlation_threshold", 1.5), ("trust_threshold", -0.1)]
)
def test_wrong_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be in"):
        method("cuber", **{name: value})
