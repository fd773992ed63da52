"""The operations of a captured step: how they are counted, and that they do not become more."""

import pytest
import torch

from gradalign_cli.numerics.devices import CPU
from tests.script_modules import load_script

OPERATIONS = {"agem_mlp": 85, "gem_mlp": 894}  # of a plain step: fewer are better, more are not


@pytest.fixture(scope="module")
def count_step():
    """The script as a module."""
    return load_script("count_step")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_captured_step_takes_no_more_operations_than_it_did(name, count_step):
    counts = count_step.count_steps(count_step.work_factories(CPU)[name]())
    assert len(counts["plain"].operations) <= OPERATIONS[name]
    assert len(counts["plain"].operations) < len(counts["measured"].operations)


def test_views_and_empty_results_are_no_operations(count_step):
    x = torch.ones(4, 6)
    with count_step.OperationCounter() as counter:
        (x.view(6, 4).t()[1:, :2].expand(2, 3, 2), x.new_zeros(0), x.detach())
    assert counter.operations == []


def test_an_operation_moves_what_it_reads_and_writes(count_step):
    x, rows, target = torch.ones(10, 4), torch.tensor([1, 3]), torch.zeros(10, 4)
    with count_step.OperationCounter() as counter:
        picked = x.index_select(0, rows) + 1
        target.index_copy_(0, rows, picked)
        target.add_(x)
    names = [operation.name for operation in counter.operations]
    assert names == ["index_select", "add", "index_copy_", "add_"]
    part, index, whole = 2 * 4 * 4, 2 * 8, 10 * 4 * 4  # bytes of float32 and of int64
    moved = [(operation.read, operation.written) for operation in counter.operations]
    assert moved == [
        (part + index, part),
        (part, part),
        (part + index, part),
        (2 * whole, whole),
    ]


def test_the_least_bytes_are_those_of_what_is_found_and_left(count_step):
    x, target = torch.ones(8), torch.zeros(8)
    with count_step.OperationCounter() as counter:
        y = x * 2 + x[:4].sum()  # x is read twice, and between them only what was made here
        target.copy_(y.relu())
    assert counter.least_bytes() == 2 * 8 * 4


def test_the_program_of_gem_is_counted_with_all_of_its_pivots(count_step):
    from gradalign_cli.numerics.quadratic import lower_bounded_qp

    P, q = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    solves = []
    for max_gpu_pivots in (2, 5):
        with count_step.OperationCounter() as counter:
            lower_bounded_qp(P, q, torch.zeros_like(q), max_gpu_pivots)  # solved without a pivot
        solves.append([o.name for o in counter.operations].count("linalg_solve_ex"))
    assert solves == [3, 6]
