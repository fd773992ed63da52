import pytest
import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.ewc import ewc
from gradalign_cli.methods.method import LossInputs, Probe
from gradalign_cli.models.losses import cross_entropy as mean_cross_entropy
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import end_task, make_probe
from tests.methods.given import setting
from tests.runs import make_parts, make_replicas, steps_of_task


def quadratic_probe(gradients):
    """A task whose examples have the given gradients [n, P], wherever the network is."""
    rows = torch.arange(len(gradients))
    return Probe(
        rows,
        0,
        lambda of, r: gradients[r],
        lambda of, r: gradients[r].mean(0),
        None,
        (),
        rows,
        rows,
        None,
        None,
    )


def penalty_gradient(method, state, params):
    """The gradient of the objective with a loss of zero."""
    params = params.clone().requires_grad_()

    def network(params, statistics, examples):
        return Output(params.sum() * torch.zeros(1, 2).double(), params[:0], statistics)

    one = Examples(torch.zeros(1, 1), torch.zeros(1).long(), (), torch.ones(1).double(), ())
    value, _ = method.objective(LossInputs(network, params, params[:0], one, ()), state)
    return torch.autograd.grad(value, params)[0]


def test_the_fisher_is_the_mean_of_the_squared_gradients_of_single_examples(tiny):
    method = ewc(1.0, False, 1.0, "sample", None)
    parts = make_parts(tiny, method)
    replica = make_replicas(parts)[0]
    untrained = new_learner(parts, replica)
    *_, (_, _, _, learner, _) = steps_of_task(parts, replica, untrained, 0)
    rows = replica.stream.train_rows[0]
    squares = []
    for row in rows:
        params = learner.params.clone().requires_grad_()
        x = (parts.benchmark.images[row] / 255).view(1, *parts.benchmark.image_shape)
        logits = parts.model.apply(params, params[:0], x, False).logits[:, :2]
        loss = cross_entropy(logits, parts.benchmark.labels[row].view(1))
        squares.append(torch.autograd.grad(loss, params)[0].square())
    after = tree_index(end_task(parts, [replica], tree_stack([learner]), 0), 0)
    torch.testing.assert_close(after.method.importance, torch.stack(squares).mean(0))
    held = after.method.importance > 0
    torch.testing.assert_close(after.method.anchor[held], learner.params[held])


def test_the_batch_form_is_the_square_of_the_mean_gradient(tiny):
    parts = make_parts(tiny, ewc(1.0, False, 1.0, "batch", 7))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[1]
    probe = make_probe(parts, learner, replica.stream.view, rows, 1)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    mean = probe.sample_gradients(mean_cross_entropy, rows[:7]).mean(0)
    torch.testing.assert_close(state.importance, mean.square())


def test_one_quadratic_stands_for_the_sum_over_tasks():
    source = torch.Generator().manual_seed(0)
    method = ewc(3.0, False, 1.0, "sample", None)
    params = torch.randn(4, 6, generator=source, dtype=torch.float64)
    state = method.init(setting(params[0], 3))
    expected = torch.zeros(6, dtype=torch.float64)
    for solution in params[1:]:
        gradients = torch.randn(5, 6, generator=source, dtype=torch.float64)
        gradients[:, 2] = 0  # a weight that matters to no task
        state = method.end_task(state, solution, quadratic_probe(gradients))
        expected += 3.0 * gradients.square().mean(0) * (params[0] - solution)
    torch.testing.assert_close(penalty_gradient(method, state, params[0]), expected)


def test_the_online_form_fades_and_keeps_the_last_solution():
    method = ewc(2.0, True, 0.5, "sample", None)
    one, two, now = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).double()
    first, second = torch.full((1, 4), 2.0).double(), torch.full((1, 4), 3.0).double()
    state = method.end_task(method.init(setting(one, 3)), one, quadratic_probe(first))
    state = method.end_task(state, two, quadratic_probe(second))
    expected = 2.0 * (0.5 * 4 + 9) * (now - two)
    torch.testing.assert_close(penalty_gradient(method, state, now), expected)


def test_the_mean_form_weighs_all_tasks_alike_and_keeps_the_last_solution():
    method = ewc(2.0, True, None, "sample", None)
    *solutions, now = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).double()
    gradients = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(2)).double()
    state = method.init(setting(now, 3))
    for task, (solution, found) in enumerate(zip(solutions, gradients, strict=True)):
        state = method.end_task(state, solution, quadratic_probe(found)._replace(task=task))
    expected = 2.0 * gradients.square().mean((0, 1)) * (now - solutions[-1])
    torch.testing.assert_close(penalty_gradient(method, state, now), expected)


def test_before_the_first_task_has_ended_nothing_is_held():
    method = ewc(100.0, False, 1.0, "sample", None)
    params = torch.ones(3).double()
    assert torch.equal(
        penalty_gradient(method, method.init(setting(params, 3)), params), 0 * params
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ((-1.0, False, 1.0, "sample", None), "`method.strength` must be non-negative, found -1"),
        ((1.0, True, 1.5, "sample", None), r"`method.decay` must be in \[0, 1\] or null"),
        ((1.0, False, 1.0, "true", None), "`method.fisher` must be one of sample, batch"),
        ((1.0, False, 1.0, "sample", 0), "`method.fisher_samples` must be positive or null"),
    ],
)
def test_wrong_values_are_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        ewc(*change)
