import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.mas import mas
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after


def test_importance_is_the_mean_size_of_the_gradient_of_the_squared_answer(tiny):
    parts = make_parts(tiny, mas(1.0, 6, 1.0, 1))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[1]
    probe = make_probe(parts, learner, replica.stream.view, rows, 1)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    sizes = []
    for row in rows[:6]:
        params = learner.params.clone().requires_grad_()
        x = (parts.benchmark.images[row] / 255).view(1, *parts.benchmark.image_shape)
        answer = parts.model.apply(params, params[:0], x, False).logits[0, 2:4]
        sizes.append(torch.autograd.grad(answer.square().sum(), params)[0].abs())
    torch.testing.assert_close(state.importance, torch.stack(sizes).mean(0))
    assert torch.equal(state.anchor, learner.params)


def test_gradients_of_batches_are_averaged_before_their_size_is_taken(tiny):
    """Six examples by three: the mean of two sizes."""
    parts = make_parts(tiny, mas(1.0, 6, 0.25, 3))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[1]
    probe = make_probe(parts, learner, replica.stream.view, rows, 1)
    before = learner.method_state._replace(importance=torch.ones_like(learner.params))
    state = parts.method.end_task(before, learner.params, probe)
    sizes = []
    for some in rows[:6].split(3):
        params = learner.params.clone().requires_grad_()
        x = (parts.benchmark.images[some] / 255).view(3, *parts.benchmark.image_shape)
        answers = parts.model.apply(params, params[:0], x, False).logits[:, 2:4]
        sizes.append(torch.autograd.grad(answers.square().sum(1).mean(), params)[0].abs())
    torch.testing.assert_close(state.importance, 0.25 + torch.stack(sizes).mean(0))


def test_a_strong_penalty_holds_the_weights_that_matter(tiny):
    parts = make_parts(tiny, mas(0.0, None, 1.0, 1), scenario="domain")
    replica = make_replicas(parts)[0]
    first = learner_after(parts, replica, 1)
    moved = []
    for strength in (0.0, 10.0):
        state = first.method_state._replace(strength=torch.tensor(strength))
        start = first._replace(method=state)
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)
        moved.append(state.importance @ (after.params - first.params).square())
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize(
    ("name", "value"), [("strength", -1.0), ("samples", 0), ("decay", 1.5), ("batch", 0)]
)
def test_wrong_values_are_refused(name, value):
    good = {"strength": 1.0, "samples": 5, "decay": 1.0, "batch": 1}
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        mas(**good | {name: value})
