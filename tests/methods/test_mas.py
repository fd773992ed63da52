import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.mas import mas
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after


def end_second_task(parts, initial_importance):
    """A new learner, the rows of the second task, and the method's state at its end when the
    importance before is `initial_importance` everywhere."""
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[1]
    probe = make_probe(parts, learner, replica.stream.view, rows, 1)
    importance = torch.full_like(learner.params, initial_importance)
    state = learner.method_state._replace(importance=importance)
    return learner, rows, parts.method.end_task(state, learner.params, probe)


def absolute_gradient(parts, params, rows):
    """The absolute value [P] of the gradient of the mean squared norm of the logits of the second
    task, which are numbers 2 and 3."""
    params = params.clone().requires_grad_()
    x = (parts.benchmark.images[rows] / 255).view(len(rows), *parts.benchmark.image_shape)
    logits = parts.model.apply(params, params[:0], x, False).logits[:, 2:4]
    return torch.autograd.grad(logits.square().sum(1).mean(), params)[0].abs()


def test_importance_is_the_mean_absolute_gradient_of_the_squared_norm_of_the_logits(tiny):
    parts = make_parts(tiny, mas(1.0, 6, 1.0, 1))
    learner, rows, state = end_second_task(parts, 0.0)
    gradients = [absolute_gradient(parts, learner.params, row[None]) for row in rows[:6]]
    torch.testing.assert_close(state.importance, torch.stack(gradients).mean(0))
    assert torch.equal(state.penalty_centre, learner.params)


def test_gradients_are_averaged_over_a_batch_before_their_absolute_value_is_taken(tiny):
    parts = make_parts(tiny, mas(1.0, 6, 0.25, 3))
    learner, rows, state = end_second_task(parts, 1.0)
    gradients = [absolute_gradient(parts, learner.params, part) for part in rows[:6].split(3)]
    torch.testing.assert_close(state.importance, 0.25 + torch.stack(gradients).mean(0))


def test_with_a_strong_penalty_the_important_parameters_change_less(tiny):
    parts = make_parts(tiny, mas(0.0, None, 1.0, 1), scenario="domain")
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    weighted_changes = []
    for strength in (0.0, 10.0):
        state = learner.method_state._replace(strength=torch.tensor(strength))
        start = learner._replace(method_state=state)
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)
        weighted_changes.append(state.importance @ (after.params - learner.params).square())
    assert weighted_changes[1] < 0.5 * weighted_changes[0]


@pytest.mark.parametrize(
    ("name", "value"), [("strength", -1.0), ("samples", 0), ("decay", 1.5), ("batch_size", 0)]
)
def test_wrong_values_are_refused(name, value):
    valid = {"strength": 1.0, "samples": 5, "decay": 1.0, "batch_size": 1}
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        mas(**valid | {name: value})
