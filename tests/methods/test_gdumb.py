import math

import pytest
import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.balanced_reservoir import balanced_reservoir
from gradalign_cli.errors import UserError
from gradalign_cli.methods.gdumb import gdumb
from gradalign_cli.training.replica import new_learner
from tests.methods.given import make_setup
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def test_the_stream_changes_no_parameter_but_fills_the_memory(tiny):
    parts = make_parts(tiny, gdumb(2, 4, 0.1, 0.0), buffer=balanced_reservoir)
    replica = make_replicas(parts)[0]
    untrained = new_learner(parts, replica)
    *_, (_, _, _, learner, _) = steps_of_task(parts, replica, untrained, 0)
    assert torch.equal(learner.params, untrained.params)
    assert (learner.memory.rows >= 0).all()


def test_one_pass_with_one_batch_is_a_step_on_the_memory(tiny):
    parts = make_parts(tiny, gdumb(1, 100, 0.3, 0.1), buffer=balanced_reservoir)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 2)
    memory, state = learner.memory, learner.method_state
    filled = memory.rows >= 0
    examples = load_examples(
        parts.benchmark, replica.stream.view, memory.rows[filled], memory.tasks[filled]
    )
    params = state.initial_params.clone().requires_grad_()
    logits = parts.model.apply(params, params[:0], examples.images, True).logits
    logits = logits.masked_fill(~examples.visible_logit_mask, -torch.inf)
    (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, examples.target), params)
    torch.testing.assert_close(state.memory_params, params.detach() - 0.3 * g)


def test_the_step_size_falls_as_half_a_cosine():
    """With a constant gradient of ones, the change is minus the sum of the step sizes."""
    method = gdumb(4, 2, 0.3, 0.1)
    params = torch.zeros(3)
    state = method.init(make_setup(params, 2))

    class ConstantProbe:
        filled_slot_indices, task = torch.arange(4), 0

        @staticmethod
        def memory_gradient(params, slots):
            assert len(slots) == 2
            return torch.ones(3)

    memory_params = method.end_task(state, params, ConstantProbe).memory_params
    step_sizes = [0.1 + 0.2 * (1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)]
    torch.testing.assert_close(memory_params, torch.full((3,), -sum(step_sizes)))


def test_it_learns_all_tasks_that_are_in_memory(tiny):
    parts = make_parts(tiny, gdumb(60, 6, 0.3, 0.0), buffer=balanced_reservoir)
    accuracy = train(parts, make_replicas(parts)).accuracy[0]
    assert accuracy[-1].mean() > accuracy[0].mean() + 0.1


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.least_lr` must be in \[0, method.lr\]"):
        gdumb(1, 1, 0.1, 0.2)
