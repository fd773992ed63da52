import pytest
import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.models.convnet import Block, convnet
from gradalign_cli.models.mlp import mlp
from gradalign_cli.numerics.trees import tree_leaves
from gradalign_cli.training.outcome import join_outcomes
from gradalign_cli.training.replica import new_learner
from tests.grids import rest_is_long
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def three_layer_parts(tiny, method, bias=False, **options):
    """`make_parts` with a network of three layers; options: those of `make_parts`."""
    parts = make_parts(tiny, method, **options)
    shape, outputs = parts.benchmark.image_shape, parts.benchmark.outputs
    return parts._replace(model=mlp([8, 6], "torch", bias, shape, outputs))


@pytest.mark.parametrize("bias", [False, True])
def test_with_a_threshold_of_one_the_features_of_old_examples_do_not_change(bias, tiny):
    """Eight examples span eight of the sixteen inputs, so that the others can still be learned."""
    method = gpm([1.0], 0.0, 8, "strict", False)
    parts = three_layer_parts(tiny, method, bias, samples=8)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    rows = replica.stream.train_rows[0]
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)

    def features_at(params):
        return parts.model.apply(params, params[:0], x, False).features

    expected = features_at(learner.params)
    after = None
    for _, _, _, after, _ in steps_of_task(parts, replica, learner, 1):
        torch.testing.assert_close(features_at(after.params), expected, rtol=1e-4, atol=1e-4)
    assert (after.params - learner.params).norm() > 0.003


def test_with_a_threshold_near_zero_it_is_almost_fine_tuning(tiny):
    parts = three_layer_parts(tiny, gpm([1e-6], 0.0, 8, "paper", True))
    learners = train(parts, make_replicas(parts)).learners
    finetuning_parts = parts._replace(method=finetune())
    finetuned = train(finetuning_parts, make_replicas(finetuning_parts)).learners.params
    importance = learners.method_state.importance[0][0]
    assert importance.count_nonzero() <= 3  # at most one column a task, and none for the first
    assert (learners.params - finetuned).norm() < 0.5 * finetuned.norm()


def test_bases_grow_and_stay_orthonormal(tiny):
    parts = three_layer_parts(tiny, gpm([0.9, 0.95, 0.99], 0.003, 10, "strict", True))
    replica = make_replicas(parts)[0]
    ranks = []
    for tasks in (1, 2, 3):
        state = learner_after(parts, replica, tasks).method_state
        for M, importance in zip(state.bases, state.importance, strict=True):
            rank = int(importance.count_nonzero())
            assert M.shape[1] == rank
            torch.testing.assert_close(M.T @ M, torch.eye(rank), atol=1e-4, rtol=0)
        ranks.append([M.shape[1] for M in state.bases])
    assert ranks[0] <= ranks[1] <= ranks[2]
    assert state.ended_tasks == 3


@pytest.mark.parametrize(
    "name", rest_is_long(["gpm", "sgp", "trgp", "cuber", "fs_dgpm"], ["gpm", "cuber"])
)
@pytest.mark.parametrize("engine", [eager, vmap])
def test_replicas_whose_bases_differ_in_rank_train_as_if_alone(engine, name, tiny):
    """In one round, and in two whose outcomes are joined."""
    parts = make_parts(tiny, method(name, thresholds=[0.98]), kind="permuted")
    replicas = make_replicas(parts, seeds=(0, 1, 2))
    one_round = train(parts, replicas, engine()).learners
    rounds = [train(parts, replicas[1:], engine()), train(parts, replicas[:1])]
    two_rounds = join_outcomes(rounds, [1, 2, 0]).learners
    separate = [train(parts, [replica]).learners for replica in replicas]
    for learners in (one_round, two_rounds):
        for number, learner in enumerate(separate):
            torch.testing.assert_close(
                learners.params[number], learner.params[0], rtol=1e-3, atol=1e-5
            )
    shapes = {tuple(leaf.shape for leaf in tree_leaves(one.method_state)) for one in separate}
    assert len(shapes) > 1


def test_wrong_values_are_refused(tiny):
    with pytest.raises(UserError, match=r"`method.thresholds` must be in \(0, 1\], found 1.5"):
        gpm([1.5], 0.0, 5, "strict", True)
    with pytest.raises(UserError, match=r"`method.increase` must be in \[-1, 1\], found 1.5"):
        gpm([0.9], 1.5, 10, "strict", True)
    with pytest.raises(UserError, match=r"`method.rank_rule` must be one of strict, paper"):
        gpm([0.9], 0.0, 5, "code", True)
    parts = three_layer_parts(tiny, gpm([0.9, 0.9], 0.0, 5, "strict", True))
    with pytest.raises(UserError, match=r"`method.thresholds` must hold 1 or 3 numbers"):
        new_learner(parts, make_replicas(parts)[0])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_features_of_old_examples_in_a_convolutional_network_do_not_change(batch_norm, tiny):
    """The patches of two images of 4 x 4 do not span the 18 or 24 columns of these layers."""
    parts = make_parts(tiny, gpm([1.0], 0.0, 2, "strict", False), samples=2)
    blocks = [Block(6, 2, 0, (1, 1, 0)), Block(8, 2, 0, (1, 1, 0))]
    shape, outputs = parts.benchmark.image_shape, parts.benchmark.outputs
    parts = parts._replace(model=convnet(blocks, [12], batch_norm, 1.0, shape, outputs))
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    x = (parts.benchmark.images[replica.stream.train_rows[0]] / 255).view(-1, *shape)

    def features_at(params):
        return parts.model.apply(params, params[:0], x, False).features

    expected = features_at(learner.params)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 1, batch=2)
    torch.testing.assert_close(features_at(after.params), expected, rtol=1e-4, atol=1e-4)
    finetuning_parts = parts._replace(method=finetune())
    start = learner._replace(method_state=())
    *_, (_, _, _, after, _) = steps_of_task(finetuning_parts, replica, start, 1, batch=2)
    assert (features_at(after.params) - expected).abs().max() > 1e-3
