from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.gpcns import (
    common_projector,
    gpcns,
    main_directions,
    main_rank,
)
from gradalign_cli.methods.subspace import layer_matrices
from gradalign_cli.models.model import Layer
from tests.methods.given import make_setup
from tests.methods.test_gpm import three_layer_parts
from tests.runs import make_replicas
from tests.step.test_step import learner_after, mean_gradient

LAYERS = (Layer(8, 2, False),)  # one matrix [2, 4]


def end_tasks(method, final_gradients):
    """The state of a method after tasks that ended with these gradients [2, 4]."""
    state = method.init(make_setup(torch.zeros(8).double(), len(final_gradients), LAYERS))
    for task, gradient in enumerate(final_gradients):
        probe = SimpleNamespace(
            mean_gradient=lambda function, rows, gradient=gradient: gradient.flatten(),
            rows=torch.arange(3),
            task=task,
            layers=LAYERS,
        )
        state = method.end_task(state, torch.zeros(8).double(), probe)
    return state


def rows(*rows):
    return torch.tensor(rows).double()


def test_the_directions_with_a_share_of_the_sum_of_singular_values_are_kept():
    singular_values = torch.tensor([4.0, 2.0, 1.0, 1.0])
    for threshold, rank in ((0.49, 0), (0.5, 1), (0.74, 1), (0.75, 2), (0.874, 2), (1.0, 4)):
        assert main_rank(singular_values, threshold) == rank
    V = main_directions(torch.diag(singular_values), 0.75)
    torch.testing.assert_close(V @ V.T, torch.diag(torch.tensor([1.0, 1, 0, 0])))


def test_directions_with_equal_singular_values_are_kept_together():
    assert main_rank(torch.tensor([4.0, 2.0, 1.0, 1.0]), 0.875) == 4  # three have just this share


def test_rows_and_columns_of_zeros_are_no_directions():
    padded = torch.zeros(6, 4)
    padded[:2] = torch.eye(4)[:2]
    assert main_directions(padded, 1.0).shape == (4, 2)
    assert main_directions(torch.zeros(3, 4), 1.0).shape == (4, 0)
    assert not common_projector(torch.zeros(4, 4), 1.0, 5.0).any()


def test_after_one_task_directions_of_its_last_gradient_are_removed_whole():
    state = end_tasks(gpcns([1.0], 0.0, 3, True, 5.0), [rows([1, 2, 0, 0], [0, 1, 0, 0])])
    torch.testing.assert_close(
        state.projectors[0], torch.diag(torch.tensor([1.0, 1, 0, 0]).double())
    )


def test_after_one_task_a_single_main_direction_is_removed_whole():
    """Its share of the sum of singular values is below the threshold, and among the main directions
    it is the only one."""
    gradient = rows([10, 0, 0, 0], [0, 0.4, 0, 0])
    state = end_tasks(gpcns([0.97], 0.0, 3, True, 5.0), [gradient])
    torch.testing.assert_close(
        state.projectors[0], torch.diag(torch.tensor([1.0, 0, 0, 0]).double())
    )


def test_a_gradient_with_one_direction_alone_is_kept_with_a_threshold_of_one_only():
    for threshold, trace in ((0.99, 0), (1.0, 1)):
        state = end_tasks(gpcns([threshold], 0.0, 3, True, 5.0), [rows([1, 2, 0, 0], [2, 4, 0, 0])])
        assert state.projectors[0].trace() == pytest.approx(trace)


def test_a_direction_of_two_tasks_counts_more_than_that_of_one():
    """The second gradient is along the third axis alone, as its part along the first is removed.
    The main directions at both ends are e1, and e1 and e3: singular values sqrt(2) and 1."""
    gradients = [rows([1, 0, 0, 0], [0, 0, 0, 0]), rows([2, 0, 0, 0], [0, 0, 1, 0])]
    state = end_tasks(gpcns([1.0], 0.0, 3, True, 3.0), gradients)
    torch.testing.assert_close(state.gradients[0][2:], rows([0, 0, 0, 0], [0, 0, 1, 0]))
    importance_of_one = 4 / (3 + 2**0.5)
    expected = torch.diag(torch.tensor([1.0, 0, importance_of_one, 0]).double())
    torch.testing.assert_close(state.projectors[0], expected)


def test_thresholds_grow_with_the_tasks():
    gradients = [rows([3, 0, 0, 0], [0, 1, 0, 0])] * 2
    for increase, rank in ((0.0, 1), (0.25, 2)):
        state = end_tasks(gpcns([0.75], increase, 3, True, 3.0), gradients)
        assert state.span_sums[0].trace() == pytest.approx(1 + rank)


@pytest.mark.parametrize("project_head", [False, True])
def test_the_gradient_on_the_ended_task_is_stored_and_leaves_the_next_steps(project_head, tiny):
    """With a threshold of one, all of its rows are within the basis."""
    parts = three_layer_parts(tiny, gpcns([1.0], 0.0, 100, project_head, 5.0), samples=8)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    task_rows, state = replica.stream.train_rows[0], learner.method_state
    g = mean_gradient(
        parts, replica.stream.view, learner.params, task_rows, torch.zeros_like(task_rows)
    )
    expected = layer_matrices(g, parts.model.layers)
    assert len(state.projectors) == 2 + project_head
    for projector, gradients, G in zip(state.projectors, state.gradients, expected, strict=False):
        torch.testing.assert_close(gradients, G, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(G @ projector, G, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([0.9], 0.0, 0, True, 5.0), "samples"),
        (([0.9], 0.0, 10, True, -1.0), "scale"),
        (([1.5], 0.0, 10, True, 5.0), "thresholds"),
    ],
)
def test_numbers_out_of_their_domain_are_named(arguments, text):
    with pytest.raises(UserError, match=f"`method.{text}` must be"):
        gpcns(*arguments)
