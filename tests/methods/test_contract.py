"""What every method must satisfy: one suite over every yaml in conf/method.

`trained` holds a learner after two tasks. tests/engines/test_vmap.py checks that a method's numbers
may vary between replicas, and that every buffer works with batched replicas.
"""

import io
from functools import partial
from typing import NamedTuple

import pytest
import torch

from gradalign_cli.buffers.buffer import keep_memory
from gradalign_cli.contract.gradients import random_gradients
from gradalign_cli.data import Dataset
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.numerics.trees import tree_leaves, tree_map, tree_stack
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.step import make_step
from gradalign_cli.training.replica import Replica, new_learner
from gradalign_cli.training.task_end import end_task, make_probe
from tests.grids import rest_is_long
from tests.methods.catalogue import METHODS, method
from tests.methods.claims import EXACT_SETTINGS, assert_claims
from tests.models.networks import everything
from tests.runs import make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import learner_after


class Trained(NamedTuple):
    name: str
    parts: Parts
    replica: Replica
    learner: Learner


@pytest.fixture(scope="module", params=METHODS)
def trained(request, tiny):
    parts = make_parts(tiny, method(request.param), samples=20)
    replica = make_replicas(parts, lrs=(0.01,))[0]
    return Trained(request.param, parts, replica, learner_after(parts, replica, 2))


def cast_floats(tree, dtype):
    """A tree with its float32 tensors in another type."""
    return tree_map(lambda t: t.to(dtype) if t.dtype == torch.float32 else t, tree)


def named_tensors(tree, name=""):
    """The tensors of a tree by their path."""
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    fields = getattr(tree, "_fields", range(len(tree)))
    branches = [named_tensors(part, f"{name}.{f}") for f, part in zip(fields, tree, strict=True)]
    return {path: tensor for branch in branches for path, tensor in branch.items()}


def shapes_and_types(tree):
    return {path: (tensor.shape, tensor.dtype) for path, tensor in named_tensors(tree).items()}


def dimensions_and_types(tree):
    return {path: (tensor.ndim, tensor.dtype) for path, tensor in named_tensors(tree).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_direction_is_finite_and_has_the_shape_and_type_of_the_gradient(trained, dtype):
    _, parts, _, learner = trained
    state = cast_floats(learner.method_state, dtype)
    usual = random_gradients(parts.method, parts.model.layers, dtype)
    zero_references = usual._replace(references=0 * usual.references)
    opposed = usual._replace(references=-usual.g.expand_as(usual.references).clone())
    zero = zero_references._replace(g=0 * usual.g, loss=0 * usual.loss)
    for gradients in (usual, opposed, zero, zero_references):
        direction, state_after = parts.method.align(gradients, state)
        assert direction.shape == gradients.g.shape
        assert direction.dtype == dtype
        assert direction.isfinite().all()
        assert shapes_and_types(state_after) == shapes_and_types(state)


@pytest.mark.parametrize("past", [0, 2])
def test_with_an_empty_memory_a_step_is_that_of_fine_tuning(trained, past):
    _, parts, replica, _ = trained
    if "acts_without_memory" in parts.method.claims:
        pytest.skip("its step differs from plain SGD's with any memory")
    for after, expected in steps_beside_fine_tuning(parts, replica, past):
        torch.testing.assert_close(after.params, expected.params, rtol=0, atol=1e-7)


def steps_beside_fine_tuning(parts, replica, past):
    """Yield the learners after the steps of a task with an empty memory, each with what a step of
    fine-tuning makes of the learner before it."""
    parts = parts._replace(buffer=parts.buffer._replace(insert=keep_memory))
    # of the same stream
    plain = finetune()._replace(shuffles_tasks_together=parts.method.shuffles_tasks_together)
    plain_step = make_step(
        parts._replace(method=plain), past, eager().make_gradient_function, False
    )
    start = new_learner(parts, replica)
    for before, draw, view, after, _ in steps_of_task(parts, replica, start, past):
        yield after, plain_step(before._replace(method_state=()), draw, view)[0]


@pytest.mark.parametrize(("memory_batch", "past"), [(5, 0), (10, 2)])
def test_with_an_empty_memory_a_step_with_batch_norm_is_that_of_fine_tuning(
    trained, memory_batch, past, tiny
):
    """For batches of 5. The unbiased variances depend on the number of values that are repeated."""
    method = trained.parts.method
    if "acts_without_memory" in method.claims:
        pytest.skip("its step differs from plain SGD's with any memory")
    model = partial(everything, dropout=0.0)
    parts = make_parts(tiny, method, samples=20, memory_batch=memory_batch, model=model)
    for after, expected in steps_beside_fine_tuning(parts, trained.replica, past):
        torch.testing.assert_close(after.params, expected.params, rtol=0, atol=1e-6)
        torch.testing.assert_close(after.statistics, expected.statistics, rtol=2e-3, atol=1e-6)


def test_an_empty_memory_does_no_harm_where_example_0_is_of_a_class_the_first_task_hides(
    trained, tiny
):
    """An empty slot reads the dataset's row 0 and is not valid."""
    reversed_labels = 5 - tiny.labels
    reversed_classes = Dataset(
        "reversed", tiny.images, reversed_labels, tiny.train_count, tiny.classes, None
    )
    parts = make_parts(reversed_classes, trained.parts.method, samples=10)
    labels, stream = parts.benchmark.labels, parts.benchmark.make_stream(0)
    assert labels[0] not in labels[stream.train_rows[0]]
    outcome = train(parts, make_replicas(parts, lrs=(0.01,)))
    assert torch.isfinite(outcome.learners.params).all()


def test_steps_keep_all_shapes_and_only_states_that_start_empty_grow_at_the_end_of_a_task(trained):
    _, parts, replica, learner = trained
    untrained = new_learner(parts, replica)
    assert dimensions_and_types(learner) == dimensions_and_types(untrained)
    if all(leaf.numel() for leaf in tree_leaves(untrained.method_state)):
        assert shapes_and_types(learner) == shapes_and_types(untrained)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 2)
    assert shapes_and_types(after) == shapes_and_types(learner)


def test_a_saved_learner_continues_as_if_it_had_not_been_saved(trained):
    """All that changes is in its tensors: a newly built method continues with them."""
    name, parts, replica, learner = trained

    def after_third_task(parts, learner):
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 2)
        return named_tensors(end_task(parts, [replica], tree_stack([after]), 2))

    file = io.BytesIO()
    torch.save(named_tensors(learner), file)
    file.seek(0)
    tensors = iter(torch.load(file, weights_only=True).values())
    rebuilt = parts._replace(method=method(name))
    restored = tree_map(lambda _: next(tensors), new_learner(rebuilt, replica))
    continued = after_third_task(rebuilt, restored)
    uninterrupted = after_third_task(parts, learner)
    assert continued.keys() == uninterrupted.keys()
    for path in continued:
        assert torch.equal(continued[path], uninterrupted[path]), path


def test_the_end_of_a_task_leaves_the_state_that_it_is_given_as_it_is(trained):
    _, parts, replica, learner = trained
    rows, view = replica.stream.train_rows[2], replica.stream.view
    before = tree_map(torch.clone, learner)
    probe = make_probe(parts, learner, view, rows, 2)
    parts.method.end_task(learner.method_state, learner.params, probe)
    for path, tensor in named_tensors(before).items():
        assert torch.equal(named_tensors(learner)[path], tensor), path


@pytest.mark.parametrize("kind", rest_is_long(["split", "permuted"], ["split"]))
def test_vmap_over_replicas_equals_a_loop_over_them(trained, kind, tiny):
    parts = make_parts(tiny, trained.parts.method, kind=kind, samples=10)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.01,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


def test_the_directions_satisfy_the_claims_of_the_method(trained):
    name, parts, _, learner = trained
    claiming, state = parts.method, learner.method_state
    if name in EXACT_SETTINGS:
        claiming = method(name, **EXACT_SETTINGS[name])
        state = new_learner(parts._replace(method=claiming), trained.replica).method_state
    state = cast_floats(state, torch.float64)
    for seed in range(10):
        gradients = random_gradients(parts.method, parts.model.layers, torch.float64, seed)
        direction, _ = claiming.align(gradients, state)
        assert_claims(claiming, gradients, state, direction)
