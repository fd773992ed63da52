from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.rwalk import rwalk
from tests.methods.given import setting
from tests.methods.small import some, some_params, value_of

FIRST, SECOND = SimpleNamespace(task=0), SimpleNamespace(task=1)


def random_walk(method, state, params, steps, seed=0):
    """The state and parameters after some steps, with the gradients and changes made."""
    source = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(steps):
        g, noise = torch.randn(2, len(params), generator=source).double()
        change = -0.1 * g + 0.1 * noise
        state = method.after(state, g, params, params + change)
        params = params + change
        made.append((g, change))
    return state, params, made


def test_after_one_task_the_importance_is_fisher_and_score_over_their_largest():
    start = some_params()
    method = rwalk(1.0, 0.3, 0.05, 3, "paper")
    state, params, made = random_walk(method, method.init(setting(start, 2)), start, 6)
    fisher, score = torch.zeros(2, 12).double()
    for n in range(0, 6, 3):
        saved, moved = torch.zeros(2, 12).double()
        for g, change in made[n : n + 3]:
            fisher = 0.3 * g**2 + 0.7 * fisher
            saved, moved = saved - g * change, moved + change
        score = score + saved.clamp_min(0) / (fisher * moved**2 / 2 + 0.05)
    state = method.end_task(state, params, FIRST)
    torch.testing.assert_close(state.importance, fisher / fisher.max() + score / score.max())
    assert torch.equal(state.anchor, params)


def test_a_second_task_halves_the_old_scores_and_goes_on_with_the_fisher():
    params = some_params()
    method = rwalk(0.0, 0.3, 0.05, 2, "paper")
    state, params, _ = random_walk(method, method.init(setting(params, 2)), params, 4)
    once = method.end_task(state, params, FIRST)
    again, params, _ = random_walk(method, once, params, 4, seed=1)
    both = method.end_task(again, params, SECOND)
    torch.testing.assert_close(both.old_score, (once.old_score + again.score) / 2)
    assert (both.score == 0).all()
    torch.testing.assert_close(both.fisher, again.fisher)


def test_steps_of_an_interval_that_is_not_over_do_not_count():
    params = some_params()
    method = rwalk(1.0, 0.3, 0.05, 5, "paper")
    state, *_ = random_walk(method, method.init(setting(params, 2)), params, 4)
    assert (state.score == 0).all()
    assert (state.saved != 0).all()


def test_the_gradient_of_the_penalty_counts_for_neither():
    params, batch = some_params(), some(4)
    method = rwalk(3.0, 0.5, 0.1, 2, "paper")
    state = method.init(setting(params, 2))
    state = state._replace(importance=torch.rand(12).double(), anchor=params - 0.2)
    moving = params.clone().requires_grad_()
    (whole,) = torch.autograd.grad(value_of(method, batch, (), moving, state)[0], moving)
    plain = whole - 2 * 3.0 * state.importance * 0.2
    found = method.after_step(state, whole, params, params - 0.1 * whole)
    torch.testing.assert_close(found.fisher, 0.5 * plain**2)
    torch.testing.assert_close(found.saved, 0.1 * plain * whole)


def test_the_published_code_sums_squares_over_the_task_and_lets_old_scores_grow():
    """Two tasks of two intervals of three steps, by hand."""
    params = some_params()
    method = rwalk(0.0, 0.3, 0.05, 3, "code")
    state = method.init(setting(params, 2))
    fisher, total = torch.zeros(2, 12).double()
    for probe in (FIRST, SECOND):
        state, params, made = random_walk(method, state, params, 6, seed=probe.task)
        squares, score = torch.zeros(2, 12).double()
        for n in (0, 3):
            saved = -sum(g * change for g, change in made[n : n + 3])
            moved = sum(change for _, change in made[n : n + 3])
            score = score + saved.clamp_min(0) / (fisher * moved**2 + 0.05)
            squares = squares + sum(g**2 for g, _ in made[n : n + 3])
            fisher = 0.3 * squares / 3 + 0.7 * fisher
        total = (3 * total + score) / 2 if probe.task else score
        state = method.end_task(state, params, probe)
        expected = fisher / fisher.max() + total / total.max()
        torch.testing.assert_close(state.importance, expected)


@pytest.mark.parametrize(
    ("name", "value"), [("damping", 0.0), ("decay", 1.5), ("interval", 0), ("form", "other")]
)
def test_wrong_values_are_refused(name, value):
    good = {"strength": 1.0, "decay": 0.9, "damping": 0.1, "interval": 10, "form": "paper"}
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        rwalk(**good | {name: value})
