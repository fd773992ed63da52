"""What is tested, counted and estimated around the steps."""

from functools import partial

import pytest
import torch

from gradalign_cli.buffers.gss_greedy import gss_greedy
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.engines.eager import eager
from gradalign_cli.errors import UserError
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.models.mlp import mlp
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.training.evaluation import (
    LARGEST_TEST_BATCH,
    Evaluator,
    correct_counts,
    even_pieces,
)
from gradalign_cli.training.memory_estimate import replica_bytes_without_activations
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.runner import stop_if_diverged, stop_if_not_finite
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, train


@pytest.mark.parametrize(
    ("count", "largest"),
    [(n, k) for k in (2, 100, LARGEST_TEST_BATCH) for n in (1, 2, k, k + 1, 2 * k + 1, 5 * k)],
)
def test_no_piece_is_too_large_and_none_is_a_single_row_left_over(count, largest):
    rows = torch.arange(3 * count).view(3, count)
    pieces = even_pieces(rows, largest, 1)
    sizes = [piece.shape[1] for piece in pieces]
    assert torch.equal(torch.cat(pieces, 1), rows)
    assert len(pieces) == -(-count // largest)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= largest


@pytest.mark.parametrize("convolves", [True, False])
def test_on_a_cpu_convolutions_take_few_images_at_a_time(convolves, tiny):
    parts = make_parts(tiny, finetune())
    (replica,) = replicas = make_replicas(parts)
    sizes = []

    def apply(params, statistics, images, *rest):
        sizes.append(len(images))
        return parts.model.apply(params, statistics, images, *rest)

    counted = parts._replace(model=parts.model._replace(apply=apply, convolutional=convolves))
    rows = replica.stream.test_rows[0]
    many = rows.repeat(-(-250 // len(rows)))[:250]
    learners, views = tree_stack([new_learner(parts, replica)]), tree_stack([replica.stream.view])
    Evaluator(counted, replicas, eager()).mean(learners, views, 0, many[None], correct_counts)
    assert sizes == ([84, 83, 83] if convolves else [250])


def test_samples_of_a_test_set_are_evenly_spread(tiny, monkeypatch):
    parts = make_parts(tiny, finetune())
    replicas = make_replicas(parts)
    rows_seen = []

    def record_rows(self, learners, views, task, rows, score):
        rows_seen.append(rows[0].tolist())
        return torch.zeros(1, 1)

    monkeypatch.setattr(Evaluator, "mean", record_rows)
    evaluator = Evaluator(parts, replicas, eager())
    for samples in (None, 4, 100):
        evaluator.accuracy(None, None, [1], samples)
    test_rows = replicas[0].stream.test_rows[1].tolist()
    whole, four, more = rows_seen
    assert whole == more == test_rows
    assert four == [test_rows[0], test_rows[3], test_rows[6], test_rows[9]]


def test_a_loss_that_is_no_number_is_named_wherever_it_stands_in_a_chunk():
    for bad in (float("nan"), float("inf")):
        for step in range(4):
            loss = torch.ones(4, 2)
            loss[step, 1] = bad
            with pytest.raises(UserError, match=rf"replica 1 .* task 3, step {10 + step + 1}:"):
                stop_if_diverged(loss, 2, 10)
    stop_if_diverged(torch.ones(4, 2), 2, 10)


def test_parameters_that_the_last_step_of_a_task_leaves_infinite_stop_the_run(tiny):
    params = torch.ones(3, 4)
    stop_if_not_finite(params, 1)
    params[2, 1] = torch.nan
    with pytest.raises(UserError, match=r"parameters of replica 2 are not finite .* task 2"):
        stop_if_not_finite(params, 1)
    parts = make_parts(tiny, finetune(), samples=5)  # one step a task: no loss shows what it did
    with pytest.raises(UserError, match="of task 1"):
        train(parts, make_replicas(parts, lrs=(1e39,)))


def test_the_learning_curve_ends_after_its_last_batch(tiny):
    """With as many batches as a task has, its last point is the accuracy after the task."""
    parts = make_parts(tiny, finetune(), samples=20)
    outcome = train(parts, make_replicas(parts, lrs=(0.02,)), plan=TrainingPlan(1, 5, 1, 4))
    curves = outcome.learning_curves[0]
    assert curves.shape == (3, 5)
    for task in range(3):
        assert curves[task, 0] == outcome.accuracy[0, task, task]
        assert curves[task, 4] == outcome.accuracy[0, task + 1, task]
    assert (curves[:, 3] != curves[:, 4]).any()


def test_backward_passes_are_those_of_all_replicas(tiny):
    parts = make_parts(tiny, method("gem"), samples=20)
    one = train(parts, make_replicas(parts))
    three = train(parts, make_replicas(parts, seeds=(0, 1, 2)))
    steps_per_task = 20 // 5
    assert one.backward_passes == steps_per_task * (1 + 2 + 3)  # on the batch and each earlier task
    assert three.backward_passes == 3 * one.backward_passes
    assert three.steps == 3 * one.steps


def test_every_gradient_that_a_method_or_a_buffer_takes_is_a_backward_pass(tiny):
    parts = make_parts(tiny, method("mer", batches=2), samples=20, buffer=reservoir)
    outcome = train(parts, make_replicas(parts))  # 4 batches of 5 examples in each of 3 tasks
    assert outcome.backward_passes == 3 * 4 * 2 * (5 + 6)  # one for each example of both batches
    buffer = partial(gss_greedy, compared_examples=4, admission="example")
    parts = make_parts(tiny, method("finetune"), samples=20, buffer=buffer)
    outcome = train(parts, make_replicas(parts))
    assert outcome.backward_passes == 3 * 4 * (1 + 5 + 4)


def test_a_replica_is_estimated_with_three_copies_of_its_memory(tiny):
    parts = make_parts(tiny, method("er"), buffer=reservoir)
    (replica,) = make_replicas(parts)
    larger = parts._replace(buffer=reservoir(1018, "total", 3, 2))
    sizes = [replica_bytes_without_activations(own, replica) for own in (parts, larger)]
    slot = 3 * 8  # a row, a task and a class position of 64 bits; no logits, no score
    assert sizes[1] - sizes[0] == 3 * 1000 * slot


@pytest.mark.parametrize(("name", "gradients"), [("finetune", 1), ("agem", 2), ("gem", 3)])
def test_a_parameter_is_estimated_with_three_copies_and_each_gradient_of_the_last_task_twice(
    name, gradients, tiny
):
    sizes = []
    for width in (8, 9):
        network = partial(mlp, [width], "torch", True)
        parts = make_parts(tiny, method(name), model=network)
        (replica,) = make_replicas(parts)
        count = sum(layer.size for layer in parts.model.layers)
        sizes.append((count, replica_bytes_without_activations(parts, replica)))
    (count, size), (larger_count, larger_size) = sizes
    assert larger_size - size == (3 + 2 * gradients) * 4 * (larger_count - count)


def test_before_any_test_no_seconds_are_counted(tiny):
    parts = make_parts(tiny, finetune())
    assert Evaluator(parts, make_replicas(parts), eager()).seconds == 0
