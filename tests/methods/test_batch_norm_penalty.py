import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.benchmarks.examples import mask_logits
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.batch_norm_penalty import (
    add_penalty_gradient,
    end_batch_norm_task,
    initial_batch_norm_state,
    with_current_batch_norm,
)
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.methods.catalogue import method
from tests.methods.given import make_setup
from tests.runs import biases_apart, make_parts, make_replicas, normalised, same, train
from tests.step.test_step import learner_after

LAYERS = (Layer(2, 0, False), Layer(6, 2, True), Layer(3, 0, False))


def make_state(params, strength=0.7):
    return initial_batch_norm_state(make_setup(params, 3, LAYERS), strength)


def given_gradients(*batches):
    """A probe whose batches have these mean gradients, one after the other."""
    remaining = iter(batches)

    class GivenGradients:
        @staticmethod
        def mean_gradient(function, rows):
            return next(remaining)

    return GivenGradients()


def test_the_penalties_of_all_tasks_are_one_around_their_weighted_mean():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(8, 11, generator=generator).double()
    (params, g), solutions, gradients = numbers[:2], numbers[2:5], numbers[5:]
    norm = make_state(params)
    for solution, gradient in zip(solutions, gradients, strict=True):
        norm = with_current_batch_norm(norm, solution)
        norm = end_batch_norm_task(norm, given_gradients(gradient), torch.arange(4), 4)
    leaf = params.clone().requires_grad_()
    importances = 4 * gradients.square()
    importances[:, 2:8] = 0
    penalty = 0.7 * (importances * (leaf - solutions).square()).sum()
    expected = g + torch.autograd.grad(penalty, leaf)[0]
    torch.testing.assert_close(
        add_penalty_gradient(g, with_current_batch_norm(norm, params)), expected
    )


def test_importance_is_the_mean_over_batches_of_squared_mean_gradients_times_their_size():
    first, second = torch.randn(2, 11, generator=torch.Generator().manual_seed(0))
    norm = end_batch_norm_task(
        make_state(first), given_gradients(first, second), torch.arange(7), 3
    )
    importance = (4 * first.square() + 3 * second.square()) / 2
    torch.testing.assert_close(norm.importance, torch.cat([importance[:2], importance[8:]]))


def test_importance_asks_for_the_classes_that_the_network_predicts_among_the_visible(tiny):
    parts = make_parts(tiny, method("adam_nscl"), model=normalised)
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[0][:7]
    noise = torch.randn(len(learner.params), generator=torch.Generator().manual_seed(0))
    learner = learner._replace(params=learner.params + noise)
    probe = make_probe(parts, learner, replica.stream.view, rows, 0)
    norm = end_batch_norm_task(learner.method_state.batch_norm_penalty, probe, rows, 7)
    images = (parts.benchmark.images[rows] / 255).view(7, *parts.benchmark.image_shape)
    leaf = learner.params.clone().requires_grad_()
    logits = parts.model.apply(leaf, leaf[:0], images, False).logits
    visible = probe.task_logit_mask.bool().expand(7, -1)  # the task has both of its classes
    assert visible.sum() == 14
    logits = mask_logits(logits, visible)
    assert (logits.argmax(1) != parts.benchmark.labels[rows] % 2).any()  # some are wrong
    (g,) = torch.autograd.grad(cross_entropy(logits, logits.argmax(1)), leaf)
    torch.testing.assert_close(norm.importance, 7 * g[norm.param_indices].square())
    assert (norm.importance > 0).any()


def test_the_entries_are_those_of_the_layers_without_a_matrix(tiny):
    params = torch.arange(11.0)
    norm = make_state(params)
    assert norm.param_indices.tolist() == [0, 1, 8, 9, 10]
    assert norm.batch_norm_params.tolist() == [0, 1, 8, 9, 10]
    model = normalised((1, 4, 4), 2)
    learned = model.init(torch.Generator().manual_seed(0))
    norm = initial_batch_norm_state(make_setup(learned, 3, model.layers), 1.0)
    scales_and_shifts = torch.cat([torch.tensor([1.0, 0.0]).repeat_interleave(n) for n in (3, 6)])
    assert torch.equal(norm.batch_norm_params, scales_and_shifts)


def test_without_batch_norm_nothing_is_computed():
    params = torch.randn(6)
    norm = initial_batch_norm_state(make_setup(params, 3, (Layer(6, 2, True),)), 1.0)
    assert norm == ()
    assert add_penalty_gradient(params, norm) is params
    assert with_current_batch_norm(norm, params) is norm
    assert end_batch_norm_task(norm, given_gradients(), torch.arange(4), 2) is norm


def test_a_strong_penalty_holds_batch_norm_and_nothing_else(tiny):
    free, held = (
        make_parts(tiny, method("adam_nscl", strength=strength), model=normalised)
        for strength in (0.0, 1e6)
    )
    moves = []
    for parts in (free, held):
        replica = make_replicas(parts, lrs=(0.003,))[0]
        first, second = (learner_after(parts, replica, tasks) for tasks in (1, 2))
        norm = first.method_state.batch_norm_penalty
        change = second.params - first.params
        important = norm.importance > 1e-3 * norm.importance.max()
        moves.append((change[norm.param_indices][important].norm(), change.norm()))
    (free_norm_move, free_move), (held_norm_move, held_move) = moves
    assert held_norm_move < 0.3 * free_norm_move
    assert held_move > 0.5 * free_move


def test_the_state_follows_the_parameters_in_every_engine(tiny):
    parts = make_parts(tiny, method("adam_nscl"), samples=20, model=biases_apart)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.003,))
    outcomes = [train(parts, replicas, engine) for engine in (eager(), vmap())]
    same(*outcomes)
    for learners in (outcome.learners for outcome in outcomes):
        norm = learners.method_state.batch_norm_penalty
        assert torch.equal(norm.batch_norm_params, learners.params.gather(1, norm.param_indices))
        assert (norm.importance.sum(1) > 0).all()
