import pytest
import torch

from gradalign_cli.methods.method import Method, keep_gradient, needed_task_ids, unchanged_params
from gradalign_cli.numerics.vectors import mean_over_rows


@pytest.mark.parametrize(
    ("references", "counts"),
    [
        ("nothing", [0, 0, 0]),
        ("pooled", [0, 1, 1]),
        ("one_task", [0, 1, 1]),
        ("per_task", [0, 1, 2]),
    ],
)
def test_the_number_of_references_depends_on_the_number_of_ended_tasks(references, counts):
    method = Method(keep_gradient, references=references)
    assert [method.reference_count(past_tasks) for past_tasks in range(3)] == counts


def test_a_method_needs_the_task_ids_that_its_functions_use():
    assert needed_task_ids(Method(keep_gradient)) == "no"
    assert needed_task_ids(Method(keep_gradient, references="pooled")) == "no"
    assert needed_task_ids(Method(keep_gradient, references="one_task")) == "of each"
    assert needed_task_ids(Method(keep_gradient, references="per_task")) == "of each"
    assert needed_task_ids(Method(keep_gradient, end_task=lambda state, *_: state)) == "at ends"
    assert (
        needed_task_ids(Method(keep_gradient, next_task_params=lambda _, params: params))
        == "at ends"
    )
    assert needed_task_ids(Method(keep_gradient, test_params=unchanged_params)) == "no"


def test_a_mean_in_pieces_is_the_mean_over_all_rows():
    """For whole pieces of 64 rows, and with a smaller last piece."""
    x = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for count in (1, 64, 65, 200):
        mean = mean_over_rows(torch.arange(count), lambda rows: x[rows] ** 2)
        torch.testing.assert_close(mean, (x[:count] ** 2).mean(0))
