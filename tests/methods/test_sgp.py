import math

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.gpcns import gpcns
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.methods.sgp import importance_from_singular_values, sgp
from gradalign_cli.numerics.trees import pad_to_shape, tree_map
from gradalign_cli.training.task_end import make_probe
from tests.methods.test_gpm import three_layer_parts
from tests.runs import compare, make_replicas
from tests.step.test_step import learner_after


def test_importance_grows_with_the_singular_value_up_to_one():
    singular_values = torch.tensor([4.0, 2.0, 1.0])
    assert importance_from_singular_values(singular_values, 0.0).tolist() == [1.0, 0.5, 0.25]
    expected = torch.tensor([1.0, 8 / 10, 4 / 7])
    torch.testing.assert_close(importance_from_singular_values(singular_values, 3.0), expected)
    torch.testing.assert_close(importance_from_singular_values(singular_values, 1e9), torch.ones(3))
    assert importance_from_singular_values(torch.zeros(2), 3.0).tolist() == [0.0, 0.0]


def test_a_task_without_inputs_changes_no_importance(tiny):
    """As a layer has whose units before it are dead."""
    parts = three_layer_parts(tiny, sgp([0.95], 0.0, 10, "strict", True, 1.0))
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    probe = make_probe(parts, learner, replica.stream.view, replica.stream.train_rows[1], 1)
    no_inputs = tree_map(torch.zeros_like, probe.layer_inputs(probe.rows))
    probe = probe._replace(layer_inputs=lambda rows: no_inputs)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    compare(state.importance, learner.method_state.importance, 0)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_a_scale_that_gives_no_importance_is_refused(scale):
    with pytest.raises(UserError, match=r"`method.scale` must be non-negative and finite"):
        sgp([0.95], 0.0, 10, "strict", True, scale)
    with pytest.raises(UserError, match=r"`method.scale` must be non-negative and finite"):
        gpcns([0.95], 0.0, 10, True, scale)


def test_with_a_large_scale_it_is_gpm(tiny):
    methods = (gpm([0.95], 0.0, 10, "strict", True), sgp([0.95], 0.0, 10, "strict", True, 1e9))
    both_params = []
    for method in methods:
        parts = three_layer_parts(tiny, method)
        both_params.append(learner_after(parts, make_replicas(parts)[0], 2).params)
    torch.testing.assert_close(*both_params, rtol=1e-3, atol=1e-4)


def test_importance_adds_up_over_tasks_and_stays_between_zero_and_one(tiny):
    parts = three_layer_parts(tiny, sgp([0.95], 0.0, 10, "strict", True, 1.0))
    replica = make_replicas(parts)[0]
    first_importance, second_importance = (
        learner_after(parts, replica, tasks).method_state.importance for tasks in (1, 2)
    )
    for before, after in zip(first_importance, second_importance, strict=True):
        before = pad_to_shape(before, after.shape)
        old_columns = before > 0
        assert (after[old_columns] >= before[old_columns]).all()
        assert (after <= 1).all()
        assert (before[old_columns] < 1).any() or old_columns.sum() == 1
