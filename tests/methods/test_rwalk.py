from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.rwalk import rwalk
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, objective_value

FIRST_TASK, SECOND_TASK = SimpleNamespace(task=0), SimpleNamespace(task=1)  # as probes


def random_steps(method, state, params, count, seed=0):
    """The state and parameters after random steps, and the (g [P], change [P]) of each of them."""
    generator = torch.Generator().manual_seed(seed)
    steps = []
    for _ in range(count):
        g, noise = torch.randn(2, len(params), generator=generator).double()
        change = -0.1 * g + 0.1 * noise
        state = method.after_step(state, g, params, params + change)
        params = params + change
        steps.append((g, change))
    return state, params, steps


def test_after_one_task_the_importance_is_fisher_and_score_over_their_largest_entries():
    start = make_params()
    method = rwalk(1.0, 0.3, 0.05, 3, "paper")
    state, params, steps = random_steps(method, method.init(make_setup(start, 2)), start, 6)
    fisher, score = torch.zeros(2, 12).double()
    for interval in (steps[:3], steps[3:]):
        loss_decrease, interval_change = torch.zeros(2, 12).double()
        for g, change in interval:
            fisher = 0.3 * g**2 + 0.7 * fisher
            loss_decrease = loss_decrease - g * change
            interval_change = interval_change + change
        distance = fisher * interval_change**2 / 2 + 0.05
        score = score + loss_decrease.clamp_min(0) / distance
    state = method.end_task(state, params, FIRST_TASK)
    torch.testing.assert_close(state.importance, fisher / fisher.max() + score / score.max())
    assert torch.equal(state.penalty_centre, params)


def test_a_second_task_averages_the_scores_and_goes_on_with_the_fisher():
    params = make_params()
    method = rwalk(0.0, 0.3, 0.05, 2, "paper")
    state, params, _ = random_steps(method, method.init(make_setup(params, 2)), params, 4)
    first_end = method.end_task(state, params, FIRST_TASK)
    state, params, _ = random_steps(method, first_end, params, 4, seed=1)
    second_end = method.end_task(state, params, SECOND_TASK)
    mean_score = (first_end.earlier_score + state.task_score) / 2
    torch.testing.assert_close(second_end.earlier_score, mean_score)
    assert (second_end.task_score == 0).all()
    torch.testing.assert_close(second_end.fisher, state.fisher)


def test_steps_of_an_unfinished_interval_do_not_count():
    params = make_params()
    method = rwalk(1.0, 0.3, 0.05, 5, "paper")
    state, *_ = random_steps(method, method.init(make_setup(params, 2)), params, 4)
    assert (state.task_score == 0).all()
    assert (state.loss_decrease != 0).all()


def test_the_gradient_of_the_penalty_counts_neither_in_the_fisher_nor_in_the_score():
    params, batch = make_params(), make_examples(4)
    method = rwalk(3.0, 0.5, 0.1, 2, "paper")
    state = method.init(make_setup(params, 2))
    state = state._replace(importance=torch.rand(12).double(), penalty_centre=params - 0.2)
    leaf = params.clone().requires_grad_()
    (g,) = torch.autograd.grad(objective_value(method, batch, (), leaf, state)[0], leaf)
    batch_g = g - 2 * 3.0 * state.importance * 0.2
    state = method.after_step(state, g, params, params - 0.1 * g)
    torch.testing.assert_close(state.fisher, 0.5 * batch_g**2)
    torch.testing.assert_close(state.loss_decrease, 0.1 * batch_g * g)


def test_the_form_of_the_published_code_sums_squares_over_the_task_and_triples_old_scores():
    """Two tasks of two intervals of three steps, computed by hand."""
    params = make_params()
    method = rwalk(0.0, 0.3, 0.05, 3, "code")
    state = method.init(make_setup(params, 2))
    fisher, score = torch.zeros(2, 12).double()
    for probe in (FIRST_TASK, SECOND_TASK):
        state, params, steps = random_steps(method, state, params, 6, seed=probe.task)
        square_sum, task_score = torch.zeros(2, 12).double()
        for interval in (steps[:3], steps[3:]):
            loss_decrease = -sum(g * change for g, change in interval)
            interval_change = sum(change for _, change in interval)
            distance = fisher * interval_change**2 + 0.05
            task_score = task_score + loss_decrease.clamp_min(0) / distance
            square_sum = square_sum + sum(g**2 for g, _ in interval)
            fisher = 0.3 * square_sum / 3 + 0.7 * fisher
        score = (3 * score + task_score) / 2 if probe.task else task_score
        state = method.end_task(state, params, probe)
        expected = fisher / fisher.max() + score / score.max()
        torch.testing.assert_close(state.importance, expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [("damping", 0.0), ("fisher_rate", 1.5), ("interval", 0), ("variant", "other")],
)
def test_wrong_values_are_refused(name, value):
    valid = {
        "strength": 1.0,
        "fisher_rate": 0.9,
        "damping": 0.1,
        "interval": 10,
        "variant": "paper",
    }
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        rwalk(**valid | {name: value})
