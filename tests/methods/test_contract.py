"""What every method keeps to: one suite over every yaml in conf/method.

`trained` is a learner after two tasks. That a method's numbers may vary between replicas, and that
buffers do not disturb batching, is in tests/engines/test_vmap.py.
"""

import io
from typing import NamedTuple

import pytest
import torch

from gradalign_cli.buffers.buffer import keep_memory
from gradalign_cli.data import Dataset
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.numerics.trees import tree_leaves, tree_map, tree_stack
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.step import make_step
from gradalign_cli.training.replica import Replica, new_learner
from gradalign_cli.training.task_end import end_task
from tests.methods.catalogue import METHODS, method
from tests.methods.claims import CLAIMS, EXACTLY, UNLIKE_SGD
from tests.methods.given import given
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


def as_type(tree, dtype):
    return tree_map(lambda t: t.to(dtype) if t.dtype == torch.float32 else t, tree)


def some_gradients(parts, dtype, seed=0):
    """Random gradients of what the method asks for after two tasks, in the network's layers."""
    source = torch.Generator().manual_seed(seed)
    count = {"nothing": 0, "pooled": 1, "one_task": 1, "per_task": 2}[parts.method.references]
    size = sum(layer.size for layer in parts.model.layers)
    g, *refs = torch.randn(1 + count, size, generator=source, dtype=dtype)
    refs = torch.stack(refs) if count else g.new_zeros(0, size)
    return given(g, refs, ref_losses=[0.5] * count, seed=seed)._replace(layers=parts.model.layers)


def named(tree, name=""):
    """The tensors of a tree by name."""
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    fields = getattr(tree, "_fields", range(len(tree)))
    parts = [named(part, f"{name}.{f}") for f, part in zip(fields, tree, strict=True)]
    return {key: tensor for part in parts for key, tensor in part.items()}


def form(tree):
    return {name: (tensor.shape, tensor.dtype) for name, tensor in named(tree).items()}


def kinds(tree):
    return {name: (tensor.ndim, tensor.dtype) for name, tensor in named(tree).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_direction_is_finite_and_formed_like_the_gradient(trained, dtype):
    _, parts, _, learner = trained
    state = as_type(learner.method_state, dtype)
    usual = some_gradients(parts, dtype)
    opposed = usual._replace(references=-usual.g.expand_as(usual.references).clone())
    still = usual._replace(g=0 * usual.g, references=0 * usual.references, loss=0 * usual.loss)
    for gradients in (usual, opposed, still, usual._replace(references=0 * usual.references)):
        direction, after = parts.method.align(gradients, state)
        assert direction.shape == gradients.g.shape
        assert direction.dtype == dtype
        assert direction.isfinite().all()
        assert form(after) == form(state)


@pytest.mark.parametrize("past", [0, 2])
def test_where_nothing_was_seen_it_fine_tunes(trained, past):
    name, parts, replica, _ = trained
    if name in UNLIKE_SGD:
        pytest.skip("its step is another, whatever is remembered")
    parts = parts._replace(buffer=parts.buffer._replace(insert=keep_memory))
    plain = make_step(parts._replace(method=finetune()), past, eager().gradient, False)
    start = new_learner(parts, replica)
    for before, draw, view, after, _ in steps_of_task(parts, replica, start, past):
        expected = plain(before._replace(method=()), draw, view)[0].params
        torch.testing.assert_close(after.params, expected, rtol=0, atol=1e-7)


def test_a_first_example_of_another_task_does_not_disturb_an_empty_memory(trained, tiny):
    """Empty places stand in for row 0, whose class the first task may not see."""
    turned = Dataset("turned", tiny.x, 5 - tiny.y, tiny.n_train, tiny.classes, None)
    parts = make_parts(turned, trained.parts.method, samples=10)
    assert (
        parts.benchmark.labels[0]
        not in parts.benchmark.labels[parts.benchmark.make_stream(0).train_rows[0]]
    )
    outcome = train(parts, make_replicas(parts, lrs=(0.01,)))
    assert torch.isfinite(outcome.learners.params).all()


def test_steps_keep_the_form_of_the_learner_and_ends_of_tasks_but_for_what_grows(trained):
    _, parts, replica, learner = trained
    fresh = new_learner(parts, replica)
    assert kinds(learner) == kinds(fresh)
    if all(leaf.numel() for leaf in tree_leaves(fresh.method_state)):
        assert form(learner) == form(fresh)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 2)
    assert form(after) == form(learner)


def test_a_learner_that_was_saved_goes_on_as_if_it_had_not_been(trained):
    """All that changes is in its tensors: a method built anew goes on with them."""
    name, parts, replica, learner = trained

    def rest(parts, learner):
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, learner, 2)
        return named(end_task(parts, [replica], tree_stack([after]), 2))

    file = io.BytesIO()
    torch.save(named(learner), file)
    file.seek(0)
    tensors = iter(torch.load(file, weights_only=True).values())
    anew = parts._replace(method=method(name))
    restored = tree_map(lambda _: next(tensors), new_learner(anew, replica))
    found, expected = rest(anew, restored), rest(parts, learner)
    assert found.keys() == expected.keys()
    for key in found:
        assert torch.equal(found[key], expected[key]), key


@pytest.mark.parametrize("kind", ["split", "permuted"])
def test_vmap_is_a_loop(trained, kind, tiny):
    parts = make_parts(tiny, trained.parts.method, kind=kind, samples=10)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.01,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


def test_what_it_claims_of_its_directions_holds(trained):
    name, parts, _, learner = trained
    made, state = parts.method, learner.method_state
    if name in EXACTLY:
        made = method(name, **EXACTLY[name])
        state = new_learner(parts._replace(method=made), trained.replica).method_state
    state = as_type(state, torch.float64)
    for seed in range(10):
        gradients = some_gradients(parts, torch.float64, seed)
        direction, _ = made.align(gradients, state)
        for claim in CLAIMS[name]:
            claim(made, gradients, state, direction)
