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
from gradalign_cli.training.outcome import join
from gradalign_cli.training.replica import new_learner
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def parts_of(tiny, method, bias=False, **changed):
    parts = make_parts(tiny, method, **changed)
    shape, outputs = parts.benchmark.image_shape, parts.benchmark.outputs
    return parts._replace(model=mlp([8, 6], "torch", bias, shape, outputs))


@pytest.mark.parametrize("bias", [False, True])
def test_with_all_the_energy_held_old_answers_do_not_change_at_all(bias, tiny):
    """Eight examples span eight of the sixteen inputs; what is left is free to learn in."""
    method = gpm([1.0], 0.0, 8, "strict", False)
    parts = parts_of(tiny, method, bias, samples=8)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    rows = replica.stream.train_rows[0]
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)

    def hidden(params):
        return parts.model.apply(params, params[:0], x, False).features

    before = hidden(learner.params)
    after = None
    for _, _, _, after, _ in steps_of_task(parts, replica, learner, 1):
        torch.testing.assert_close(hidden(after.params), before, rtol=1e-4, atol=1e-4)
    assert (after.params - learner.params).norm() > 0.003


def test_with_a_threshold_near_nothing_it_is_fine_tuning(tiny):
    parts = parts_of(tiny, gpm([1e-6], 0.0, 8, "paper", True))
    plain = parts._replace(method=finetune())
    found = train(parts, make_replicas(parts)).learners
    expected = train(plain, make_replicas(plain)).learners
    first = found.method_state.importance[0][0]
    assert first.count_nonzero() <= 3  # one column a task at most, none on the first
    assert (found.params - expected.params).norm() < 0.5 * expected.params.norm()


def test_bases_grow_and_stay_orthonormal(tiny):
    parts = parts_of(tiny, gpm([0.9, 0.95, 0.99], 0.003, 10, "strict", True))
    replica = make_replicas(parts)[0]
    ranks = []
    for tasks in (1, 2, 3):
        state = learner_after(parts, replica, tasks).method_state
        for M, weight in zip(state.bases, state.importance, strict=True):
            rank = int(weight.count_nonzero())
            assert M.shape[1] == rank
            torch.testing.assert_close(
                M[:, :rank].T @ M[:, :rank], torch.eye(rank), atol=1e-4, rtol=0
            )
        ranks.append([int(weight.count_nonzero()) for weight in state.importance])
    assert ranks[0] <= ranks[1] <= ranks[2]
    assert state.tasks == 3


@pytest.mark.parametrize("name", ["gpm", "sgp", "trgp", "cuber", "fs_dgpm"])
@pytest.mark.parametrize("engine", [eager, vmap])
def test_replicas_whose_bases_differ_in_rank_train_as_if_alone(engine, name, tiny):
    """In one round and in two, whose outcomes are joined."""
    parts = make_parts(tiny, method(name, thresholds=[0.98]), kind="permuted")
    replicas = make_replicas(parts, seeds=(0, 1, 2))
    together = train(parts, replicas, engine()).learners
    joined = join([train(parts, replicas[1:], engine()), train(parts, replicas[:1])], [1, 2, 0])
    for found in (together, joined.learners):
        for number, replica in enumerate(replicas):
            alone = train(parts, [replica]).learners.params[0]
            torch.testing.assert_close(found.params[number], alone, rtol=1e-3, atol=1e-5)
    alone = [train(parts, [replica]).learners for replica in replicas]
    sizes = {tuple(leaf.shape for leaf in tree_leaves(learner.method_state)) for learner in alone}
    assert len(sizes) > 1


def test_wrong_values_are_refused(tiny):
    with pytest.raises(UserError, match=r"`method.thresholds` must be in \(0, 1\], found 1.5"):
        gpm([1.5], 0.0, 5, "strict", True)
    with pytest.raises(UserError, match=r"`method.rank_rule` must be one of strict, paper"):
        gpm([0.9], 0.0, 5, "code", True)
    parts = parts_of(tiny, gpm([0.9, 0.9], 0.0, 5, "strict", True))
    with pytest.raises(UserError, match=r"`method.thresholds` must hold 1 or 3 numbers"):
        new_learner(parts, make_replicas(parts)[0])


@pytest.mark.parametrize("normed", [False, True])
def test_old_answers_of_a_convolutional_network_stay_to_the_last_layer(normed, tiny):
    """The patches of eight images of 4 x 4 do not span the 18 or 24 columns of these layers."""
    parts = make_parts(tiny, gpm([1.0], 0.0, 2, "strict", False), samples=2)
    blocks = [Block(6, 2, 0, (1, 1, 0)), Block(8, 2, 0, (1, 1, 0))]
    shape, outputs = parts.benchmark.image_shape, parts.benchmark.outputs
    parts = parts._replace(model=convnet(blocks, [12], normed, 1.0, shape, outputs))
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    x = (parts.benchmark.images[replica.stream.train_rows[0]] / 255).view(-1, *shape)

    def hidden(params):
        return parts.model.apply(params, params[:0], x, False).features

    *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 1, batch=2)
    torch.testing.assert_close(hidden(after.params), hidden(learner.params), rtol=1e-4, atol=1e-4)
    free = parts._replace(method=finetune())
    start = learner._replace(method=())
    *_, (_, _, _, after, _) = steps_of_task(free, replica, start, 1, batch=2)
    assert (hidden(after.params) - hidden(learner.params)).abs().max() > 1e-3
