"""The step as a whole."""

from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from gradalign_cli.buffers.buffer import Memory, sample_memory
from gradalign_cli.buffers.gss_greedy import gss_greedy
from gradalign_cli.buffers.loss_aware import loss_aware
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.buffers.ring import ring
from gradalign_cli.engines.eager import eager
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.der import der
from gradalign_cli.methods.er import er
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.gem import gem
from gradalign_cli.methods.method import Method
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.replay import make_replay
from gradalign_cli.step.step import make_step
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import end_task
from tests.runs import make_parts, make_replicas, normalised, same, steps_of_task, train


def follow(task):
    """A method that goes along the reference of one task, to make it visible."""
    references = "pooled" if task is None else "per_task"

    def align(gradients, state):
        return gradients.references[0 if task is None else task], state

    return Method(align, references=references)


def learner_after(parts, replica, tasks):
    """A learner that has trained on the first tasks."""
    learner = new_learner(parts, replica)
    for task in range(tasks):
        *_, (_, _, _, learner, _) = steps_of_task(parts, replica, learner, task)
        learner = tree_index(end_task(parts, [replica], tree_stack([learner]), task), 0)
    return learner


def mean_gradient(parts, view, params, rows, tasks):
    """The gradient of the mean cross-entropy, by plain autograd and explicit masks."""
    params = params.clone().requires_grad_()
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)
    logits = parts.model.apply(params, params[:0], x, True).logits
    logits = logits.masked_fill(~view.visible_logit_mask[tasks], -torch.inf)
    loss = cross_entropy(logits, parts.benchmark.labels[rows])
    return torch.autograd.grad(loss, params)[0]


def test_without_a_conflict_the_step_is_bit_identical_to_fine_tuning(tiny):
    for method in (agem(), gem(0.5, 1e-9, True)):
        parts = make_parts(tiny, method)
        plain = parts._replace(method=finetune())
        replica = make_replicas(parts, lrs=(0.5,))[0]
        conflicts = agreed = 0
        learner = new_learner(parts, replica)
        for task in range(3):
            steps = steps_of_task(parts, replica, learner, task)
            for before, draw, view, learner, trace in steps:
                step = make_step(plain, task, eager().make_gradient_function, False)
                followed = step(before._replace(method_state=()), draw, view)[0].params
                if trace.violated == 1:
                    conflicts += 1
                    assert not torch.equal(learner.params, followed)
                    assert trace.applied_update_violates == 0
                else:
                    agreed += 1
                    assert torch.equal(learner.params, followed)
        assert conflicts > 2
        assert agreed > 2


@pytest.mark.parametrize("buffer", [ring, reservoir])
def test_the_pooled_reference_is_the_gradient_on_all_earlier_tasks_and_not_the_current(
    buffer, tiny
):
    parts = make_parts(tiny, follow(None), memory_batch=None, buffer=buffer)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 2)
    current = 0
    for before, _, view, after, _ in steps_of_task(parts, replica, learner, 2):
        old = (before.memory.rows >= 0) & (before.memory.tasks < 2)
        current += int((before.memory.tasks == 2).sum())
        rows, tasks = before.memory.rows[old], before.memory.tasks[old]
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert current > 0


@pytest.mark.parametrize("buffer", [ring, reservoir])
def test_the_reference_of_a_task_is_the_gradient_on_its_examples_alone(buffer, tiny):
    parts = make_parts(tiny, follow(1), memory_batch=None, buffer=buffer)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts._replace(method=finetune()), replica, 2)
    for before, _, view, after, _ in steps_of_task(parts, replica, learner, 2):
        own = before.memory.tasks == 1
        rows, tasks = before.memory.rows[own], before.memory.tasks[own]
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)


def test_a_buffer_that_needs_no_random_numbers_trains_like_one_that_ignores_them(tiny):
    def without_uniforms(*arguments):
        return ring(*arguments)._replace(uniforms_per_arrival=0)

    for method in (agem(), er(), der(0.5)):
        ignoring, without = (
            make_parts(tiny, method, buffer=buffer) for buffer in (ring, without_uniforms)
        )
        one, other = (train(parts, make_replicas(parts)) for parts in (ignoring, without))
        same(one, other, tolerance=0)


def test_experience_replay_is_the_mean_over_new_and_remembered_examples(tiny):
    parts = make_parts(tiny, er(), memory_batch=None)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    for before, draw, view, after, _ in steps_of_task(parts, replica, learner, 1):
        held = before.memory.rows >= 0
        rows = torch.cat([draw.rows, before.memory.rows[held]])
        tasks = torch.cat([draw.tasks, before.memory.tasks[held]])
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)


def test_a_memory_batch_is_drawn_without_replacement_and_uniformly():
    rows = torch.arange(100, 110)
    memory = Memory(rows, *torch.zeros(2, 10).long(), torch.zeros(10, 0), *torch.zeros(2, 0))
    allowed = torch.arange(10)[None] < 8
    uniform = torch.rand(4000, 10, generator=torch.Generator().manual_seed(0))
    slots = torch.arange(10)[None]
    sample = partial(sample_memory, memory, slots, allowed, 3, pads_in_turn=False)
    sampled = torch.func.vmap(lambda numbers: sample(random_number_of_slot=numbers))(uniform)
    assert (sampled.valid == 1).all()
    assert (sampled.rows[:, 0].sort(1).values.diff(dim=1) > 0).all()
    share = torch.bincount(sampled.rows.flatten() - 100, minlength=10) / 4000
    assert (share[8:] == 0).all()
    assert ((share[:8] - 3 / 8).abs() < 4.5 * (3 / 8 * 5 / 8 / 4000) ** 0.5).all()


def test_where_less_is_held_than_asked_for_the_rest_has_no_weight():
    row = torch.tensor([7, -1, 9, -1, -1])
    memory = Memory(row, *torch.zeros(2, 5).long(), torch.zeros(5, 0), *torch.zeros(2, 0))
    slots, held = torch.arange(5)[None], (row >= 0)[None]
    sampled = sample_memory(memory, slots, held, 4, torch.rand(5), pads_in_turn=True)
    assert sampled.valid.sum() == 2
    assert set(sampled.rows[sampled.valid == 1].tolist()) == {7, 9}
    assert torch.equal(sampled.rows[sampled.valid == 0], sampled.rows[sampled.valid == 1])


@pytest.mark.parametrize(("held", "times"), [(3, [2, 2, 2]), (4, [2, 2, 1, 1])])
def test_a_network_that_normalises_by_the_batch_meets_all_that_is_held_as_often(held, times, tiny):
    parts = make_parts(tiny, er(), samples=20, model=normalised, memory_batch=6)
    (replica,) = make_replicas(parts)
    learner = learner_after(parts, replica, 1)
    _, draw, view, _, _ = next(steps_of_task(parts, replica, learner, 1))
    memory = learner.memory
    rows = torch.where((memory.rows >= 0).cumsum(0) <= held, memory.rows, -1)
    (examples,) = make_replay(parts, 1)(memory._replace(rows=rows), draw, view)
    _, counts = examples.images.flatten(1).unique(dim=0, return_counts=True)
    assert sorted(counts.tolist(), reverse=True) == times
    assert examples.valid.sum() == held


def watched(make, number):
    """A buffer whose arrivals are written down, beside the memory they came to."""
    offered = []

    def factory(*size):
        buffer = make(*size, number)

        def insert(memory, arrivals):
            offered.append((memory, arrivals))
            return buffer.insert(memory, arrivals)

        return buffer._replace(insert=insert)

    return factory, offered


def greedy(*arguments):
    """GSS-Greedy as its paper has it."""
    return gss_greedy(*arguments, "example")


@pytest.mark.parametrize("method", [finetune(), er()], ids=["finetune", "er"])
@pytest.mark.parametrize("make", [greedy, loss_aware])
def test_a_buffer_sees_arrivals_and_stored_examples_as_the_step_leaves_the_network(
    make, method, tiny
):
    factory, offered = watched(make, 7)
    parts = make_parts(tiny, method, buffer=factory)
    replica = make_replicas(parts)[0]
    learner, rooms = new_learner(parts, replica), set()
    for task in range(2):
        steps = steps_of_task(parts, replica, learner, task)
        for _, draw, view, learner, _ in steps:
            memory, (*_, seen) = offered[-1]
            there = seen.stored_valid > 0
            slots = seen.stored_slots[there]
            rooms.add(int(there.sum()))
            assert (memory.rows[slots] >= 0).all()  # an empty slot is never read
            assert len(slots.unique()) == min(7, int((memory.rows >= 0).sum()))
            row = torch.cat([draw.rows, memory.rows[slots]])
            tasks = torch.cat([draw.tasks, memory.tasks[slots]])
            gradients, losses = one_by_one(parts, view, learner.params, row, tasks)
            if make is greedy:
                own, theirs = normalize(gradients, dim=1).split([len(draw.rows), len(slots)])
                found, expected, filled = (
                    seen.arrival_losses_or_cosines[:, there],
                    own @ theirs.T,
                    seen.arrival_losses_or_cosines.T,
                )
            else:
                losses_seen = seen.arrival_losses_or_cosines, seen.stored_losses[there]
                found, expected = torch.cat(losses_seen), losses
                filled = seen.stored_losses
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert not filled[~there].any()
    assert rooms == {0, 5, 7}


def one_by_one(parts, view, params, rows, tasks):
    """The gradient [n, P] and loss [n] of each example, by plain autograd."""
    gradients, losses = [], []
    for row, task in zip(rows.split(1), tasks.split(1), strict=True):
        leaf = params.clone().requires_grad_()
        x = (parts.benchmark.images[row] / 255).view(-1, *parts.benchmark.image_shape)
        logits = parts.model.apply(leaf, leaf[:0], x, True).logits
        seen = logits.masked_fill(~view.visible_logit_mask[task], -torch.inf)
        loss = cross_entropy(seen, parts.benchmark.labels[row])
        gradients.append(torch.autograd.grad(loss, leaf)[0])
        losses.append(loss.detach())
    return torch.stack(gradients), torch.stack(losses)


def test_where_no_buffer_asks_nothing_is_shown_and_nothing_more_is_drawn(tiny):
    factory, offered = watched(lambda *size: reservoir(*size[:-1]), None)
    parts = make_parts(tiny, finetune(), buffer=factory)
    learner_after(parts, make_replicas(parts)[0], 1)
    assert {arrivals.measurements for _, arrivals in offered} == {()}
    assert (
        draw_sizes(parts, 1).buffer_measure_uniforms,
        draw_sizes(parts, 1).uniforms_per_arrival,
    ) == (
        0,
        1,
    )
    asking = parts._replace(buffer=greedy(18, "total", 3, 2, 4))
    assert (
        draw_sizes(asking, 1).buffer_measure_uniforms,
        draw_sizes(asking, 1).uniforms_per_arrival,
    ) == (
        18,
        2,
    )
