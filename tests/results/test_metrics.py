import numpy as np
import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.results.metrics import (
    continual_evaluation_metrics,
    forgetting_matrix,
    metrics,
    summary,
)

# after:          none, task 1, task 2, task 3
R = np.array([[0.1, 0.2, 0.3], [0.9, 0.4, 0.3], [0.7, 0.8, 0.5], [0.8, 0.5, 0.9]])


def test_metrics_of_a_matrix_computed_by_hand():
    values = metrics(R)
    assert values["ACC"] == pytest.approx((0.8 + 0.5 + 0.9) / 3)
    assert values["BWT"] == pytest.approx(((0.8 - 0.9) + (0.5 - 0.8)) / 2)
    assert values["FWT"] == pytest.approx(((0.4 - 0.2) + (0.5 - 0.3)) / 2)
    assert values["forgetting"] == pytest.approx(((0.9 - 0.8) + (0.8 - 0.5)) / 2)
    assert values["LA"] == pytest.approx((0.9 + 0.8 + 0.9) / 3)
    assert values["AAA"] == pytest.approx((0.9 + (0.7 + 0.8) / 2 + (0.8 + 0.5 + 0.9) / 3) / 3)


def test_forgetting_may_be_negative_and_leaves_the_last_row_out_of_the_maximum():
    improved = np.array([[0.0, 0.0], [0.5, 0.0], [0.7, 0.6]])
    assert metrics(improved)["forgetting"] == pytest.approx(-0.2)


def test_gem_convention_divides_by_the_number_of_tasks():
    assert metrics(R, convention="gem")["BWT"] == pytest.approx(metrics(R)["BWT"] * 2 / 3)
    assert metrics(R, convention="gem")["FWT"] == pytest.approx(metrics(R)["FWT"] * 2 / 3)


def test_lca_is_a_mean_and_in_agems_convention_a_trapezoid():
    learning_curves = np.array([[0.0, 0.6, 0.6], [0.2, 0.4, 0.4]])
    mean = (0.1 + 0.5 + 0.5) / 3
    trapezoid = (0.1 / 2 + 0.5 + 0.5 / 2) / 2
    assert metrics(R, learning_curves)["LCA2"] == pytest.approx(mean)
    assert metrics(R, learning_curves, "agem")["LCA2"] == pytest.approx(trapezoid)


def test_one_task_has_no_transfer():
    assert set(metrics(np.array([[0.1], [0.9]]))) == {"ACC", "LA", "AAA"}


def test_forgetting_matrix_by_hand():
    F = forgetting_matrix(R)
    assert np.isnan(F[:2]).all()
    assert np.isnan(F[2, 1:]).all()
    assert F[2, 0] == pytest.approx(0.2)
    assert F[3, :2] == pytest.approx([0.1, 0.3])


def test_summary_is_students_interval_over_replicas():
    acc = summary([{"ACC": 0.8}, {"ACC": 0.9}, {"ACC": 1.0}])["ACC"]
    assert acc["mean"] == pytest.approx(0.9)
    assert acc["std"] == pytest.approx(0.1)
    assert acc["ci95_high"] - 0.9 == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)
    assert 0.9 - acc["ci95_low"] == pytest.approx(acc["ci95_high"] - 0.9)
    assert summary([{"ACC": 0.8}])["ACC"]["ci95_low"] is None


def test_metrics_between_the_steps_computed_by_hand():
    nan = np.nan
    learned_task = np.array([0, 0, 1, 1, 1, 2, 2, 2])
    accuracy = np.array(
        [
            [0.5, nan, nan],
            [0.9, nan, nan],
            [0.4, 0.3, nan],
            [0.6, 0.7, nan],
            [0.8, 0.8, nan],
            [0.7, 0.5, 0.4],
            [0.9, 0.6, 0.6],
            [0.7, 0.7, 0.9],
        ]
    )
    values = continual_evaluation_metrics(accuracy, learned_task)
    min_acc = (0.4 + 0.5) / 2  # of task 1 after it was learned, and of task 2
    assert values["min_ACC"] == pytest.approx(min_acc)
    assert values["WC_ACC"] == pytest.approx(0.9 / 3 + 2 / 3 * min_acc)
    # while task 2 is learned, task 1 falls to 0.4 and returns to 0.8; while task 3 is learned,
    # task 1 ends at its lowest value, and task 2 falls to 0.5 and returns to 0.7
    assert values["stability_gap"] == pytest.approx((0.4 + 0.0 + 0.2) / 3)


@pytest.mark.parametrize(
    ("before", "lowest", "after", "gap"),
    [(0.9, 0.4, 0.7, 0.3), (0.6, 0.4, 0.8, 0.2), (0.5, 0.6, 0.8, 0.0)],
)
def test_the_stability_gap_is_below_both_the_value_before_and_the_value_after(
    before, lowest, after, gap
):
    accuracy = np.array([[before, np.nan], [lowest, 0.5], [after, 0.5]])
    values = continual_evaluation_metrics(accuracy, np.array([0, 1, 1]))
    assert values["stability_gap"] == pytest.approx(gap)


def test_one_task_has_no_metrics_between_the_steps():
    assert continual_evaluation_metrics(np.array([[0.5], [0.9]]), np.array([0, 0])) == {}


def test_an_untrained_network_forgets_nothing():
    """Row 0 counts in no maximum, however good chance was."""
    lucky = np.array([[1.0, 1.0], [0.5, 0.0], [0.4, 0.6]])
    assert metrics(lucky)["forgetting"] == pytest.approx(0.1)
    assert forgetting_matrix(lucky)[2, 0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        ("x", "found str"),
        (None, "found one of shape \\[\\]"),
        ([[1, 0], [1]], "found list"),
        (np.ones((2, 2)), "found one of shape \\[2, 2\\]"),
        (np.zeros((1, 0)), "found one of shape \\[1, 0\\]"),
        ([[0.1], [90]], "found 90 in it"),
    ],
)
def test_what_is_no_accuracy_matrix_is_refused_in_a_sentence(matrix, problem):
    for function in (metrics, forgetting_matrix):
        with pytest.raises(UserError, match=f"`R` must be a matrix .* of fractions, {problem}"):
            function(matrix)


def test_a_matrix_may_be_a_list_or_a_tensor():
    assert metrics(R.tolist()) == metrics(R)
    assert metrics(torch.from_numpy(R)) == metrics(R)
