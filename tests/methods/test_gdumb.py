import math

import pytest
import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.balanced_reservoir import balanced_reservoir
from gradalign_cli.errors import UserError
from gradalign_cli.methods.gdumb import gdumb
from gradalign_cli.training.replica import new_learner
from tests.methods.given import setting
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def test_the_stream_teaches_nothing_but_fills_the_memory(tiny):
    parts = make_parts(tiny, gdumb(2, 4, 0.1, 0.0), buffer=balanced_reservoir)
    replica = make_replicas(parts)[0]
    start = new_learner(parts, replica)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 0)
    assert torch.equal(after.params, start.params)
    assert (after.memory.rows >= 0).all()


def test_one_pass_with_one_batch_is_a_step_on_the_memory(tiny):
    parts = make_parts(tiny, gdumb(1, 100, 0.3, 0.1), buffer=balanced_reservoir)
    replica = make_replicas(parts)[0]
    after = learner_after(parts, replica, 2)  # two tasks are over
    held = after.memory.rows >= 0
    examples = load_examples(
        parts.benchmark, replica.stream.view, after.memory.rows[held], after.memory.tasks[held]
    )
    params = after.method_state.first.clone().requires_grad_()
    logits = parts.model.apply(params, params[:0], examples.images, True).logits
    seen = logits.masked_fill(~examples.visible_logits, -torch.inf)
    (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(seen, examples.target), params)
    torch.testing.assert_close(after.method_state.learned, params.detach() - 0.3 * g)


def test_the_step_falls_as_half_a_cosine(tiny):
    """With a gradient that is the same everywhere, the way is the sum of the steps."""
    method = gdumb(4, 2, 0.3, 0.1)
    params = torch.zeros(3)
    state = method.init(setting(params, 2))

    class Probe:
        held, task = torch.arange(4), 0

        @staticmethod
        def memory_gradient(params, slots):
            assert len(slots) == 2
            return torch.ones(3)

    found = method.end_task(state, params, Probe).learned
    steps = [0.1 + 0.2 * (1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)]
    torch.testing.assert_close(found, torch.full((3,), -sum(steps)))


def test_it_learns_all_tasks_that_are_in_memory(tiny):
    parts = make_parts(tiny, gdumb(60, 6, 0.3, 0.0), buffer=balanced_reservoir)
    matrix = train(parts, make_replicas(parts)).accuracy[0]
    assert matrix[-1].mean() > matrix[0].mean() + 0.1


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.least_step` must be in \[0, method.step\]"):
        gdumb(1, 1, 0.1, 0.2)
