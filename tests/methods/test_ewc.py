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
from tests.methods.given import make_setup
from tests.runs import make_parts, make_replicas, steps_of_task


def make_gradient_probe(gradients, task=0):
    """The probe of a task whose examples have fixed gradients [n, P], at any parameters."""
    rows = torch.arange(len(gradients))
    return Probe(
        rows=rows,
        task=task,
        network=None,
        statistics=None,
        examples=None,
        memory_examples=None,
        sample_gradients=lambda function, rows: gradients[rows],
        mean_gradient=lambda function, rows: gradients[rows].mean(0),
        layer_inputs=None,
        layers=(),
        task_logit_mask=None,
        filled_slot_indices=None,
        memory_gradient=None,
        memory_layer_inputs=None,
    )


def penalty_gradient(method, state, params):
    """The gradient [P] of the penalty: of the objective where the cross-entropy is constant."""
    params = params.clone().requires_grad_()

    def network(params, statistics, examples):
        return Output(params.sum() * torch.zeros(1, 2).double(), params[:0], statistics)

    batch = Examples(torch.zeros(1, 1), torch.zeros(1).long(), (), torch.ones(1).double(), ())
    value, _ = method.objective(LossInputs(network, params, params[:0], batch, ()), state)
    return torch.autograd.grad(value, params)[0]


@pytest.mark.parametrize("form", ["sample", "probability"])
def test_the_fisher_is_the_mean_of_the_squared_gradients_of_single_examples_or_of_p_times_them(
    form, tiny
):
    parts = make_parts(tiny, ewc(1.0, False, 1.0, form, None))
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
        probability = torch.exp(-loss.detach()) if form == "probability" else 1.0
        squares.append(probability * torch.autograd.grad(loss, params)[0].square())
    state = tree_index(end_task(parts, [replica], tree_stack([learner]), 0), 0).method_state
    torch.testing.assert_close(state.importance, torch.stack(squares).mean(0))
    penalised = state.importance > 0
    torch.testing.assert_close(state.penalty_centre[penalised], learner.params[penalised])


def test_the_batch_form_is_the_square_of_the_mean_gradient(tiny):
    parts = make_parts(tiny, ewc(1.0, False, 1.0, "batch", 7))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[1]
    probe = make_probe(parts, learner, replica.stream.view, rows, 1)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    mean_gradient = probe.sample_gradients(mean_cross_entropy, rows[:7]).mean(0)
    torch.testing.assert_close(state.importance, mean_gradient.square())


def test_one_quadratic_equals_the_sum_over_tasks():
    source = torch.Generator().manual_seed(0)
    method = ewc(3.0, False, 1.0, "sample", None)
    params = torch.randn(4, 6, generator=source, dtype=torch.float64)
    state = method.init(make_setup(params[0], 3))
    expected = torch.zeros(6, dtype=torch.float64)
    for solution in params[1:]:
        gradients = torch.randn(5, 6, generator=source, dtype=torch.float64)
        gradients[:, 2] = 0  # a parameter that no task depends on
        state = method.end_task(state, solution, make_gradient_probe(gradients))
        expected += 3.0 * gradients.square().mean(0) * (params[0] - solution)
    torch.testing.assert_close(penalty_gradient(method, state, params[0]), expected)


def test_the_online_form_decays_and_is_around_the_last_solution():
    method = ewc(2.0, True, 0.5, "sample", None)
    first_solution, second_solution, params = torch.randn(
        3, 4, generator=torch.Generator().manual_seed(1)
    ).double()
    first_gradients, second_gradients = (torch.full((1, 4), x).double() for x in (2.0, 3.0))
    state = method.init(make_setup(params, 3))
    state = method.end_task(state, first_solution, make_gradient_probe(first_gradients))
    state = method.end_task(state, second_solution, make_gradient_probe(second_gradients))
    expected = 2.0 * (0.5 * 4 + 9) * (params - second_solution)
    torch.testing.assert_close(penalty_gradient(method, state, params), expected)


def test_without_a_decay_all_tasks_count_equally_around_the_last_solution():
    method = ewc(2.0, True, None, "sample", None)
    *solutions, params = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).double()
    gradients = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(2)).double()
    state = method.init(make_setup(params, 3))
    for task, solution in enumerate(solutions):
        state = method.end_task(state, solution, make_gradient_probe(gradients[task], task))
    expected = 2.0 * gradients.square().mean((0, 1)) * (params - solutions[-1])
    torch.testing.assert_close(penalty_gradient(method, state, params), expected)


def test_before_the_first_task_has_ended_the_penalty_is_zero():
    method = ewc(100.0, False, 1.0, "sample", None)
    params = torch.ones(3).double()
    assert torch.equal(
        penalty_gradient(method, method.init(make_setup(params, 3)), params), 0 * params
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((-1.0, False, 1.0, "sample", None), "`method.strength` must be non-negative, found -1"),
        ((1.0, True, 1.5, "sample", None), r"`method.decay` must be in \[0, 1\] or null"),
        ((1.0, False, 1.0, "true", None), "`method.fisher` must be one of sample, batch"),
        ((1.0, False, 1.0, "sample", 0), "`method.fisher_samples` must be positive or null"),
    ],
)
def test_wrong_values_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        ewc(*settings)
