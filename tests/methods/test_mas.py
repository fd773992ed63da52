import torch

from gradalign_cli.methods.mas import mas
from gradalign_cli.replica import new_learner
from gradalign_cli.task_end import make_probe
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.test_step import learner_after


def test_importance_is_the_mean_size_of_the_gradient_of_the_squared_answer(tiny):
    parts = make_parts(tiny, mas(1.0, 6))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train[1]
    probe = make_probe(parts, learner, replica.stream.view, rows, 1)
    state = parts.method.end_task(learner.method, learner.params, probe)
    sizes = []
    for row in rows[:6]:
        params = learner.params.clone().requires_grad_()
        x = (parts.benchmark.x[row] / 255).view(1, *parts.benchmark.shape)
        answer = parts.model.apply(params, params[:0], x, False).logits[0, 2:4]
        sizes.append(torch.autograd.grad(answer.square().sum(), params)[0].abs())
    torch.testing.assert_close(state.importance, torch.stack(sizes).mean(0))
    assert torch.equal(state.anchor, learner.params)


def test_a_strong_penalty_holds_the_weights_that_matter(tiny):
    parts = make_parts(tiny, mas(0.0, None), scenario="domain")
    replica = make_replicas(parts)[0]
    first = learner_after(parts, replica, 1)
    moved = []
    for strength in (0.0, 10.0):
        state = first.method._replace(strength=torch.tensor(strength))
        start = first._replace(method=state)
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)
        moved.append(state.importance @ (after.params - first.params).square())
    assert moved[1] < 0.5 * moved[0]
