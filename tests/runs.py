"""Small runs for the tests: the tiny dataset, a small network, any method and buffer."""

from itertools import chain

import torch

from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.ring import ring
from gradalign_cli.data import Dataset
from gradalign_cli.engines.eager import eager
from gradalign_cli.models.convnet import Block, convnet
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.devices import CPU, default_device
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import draw_chunks, pass_orders
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.step import make_step
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.replica_groups import train_replica_group
from gradalign_cli.training.task_begin import begin_task


def small(shape, outputs):
    """A hidden layer of eight."""
    return mlp([8], "torch", True, shape, outputs)


def noisy(shape, outputs):
    """A convolution and a hidden layer that lose a part of their outputs in training."""
    return convnet([Block(3, 3, 1, (2, 2, 0))], [7], False, 1.0, shape, outputs, [0.25, 0.5])


def normalised(shape, outputs):
    """A convolution and a hidden layer with BatchNorm."""
    return convnet([Block(3, 3, 1, (2, 2, 0))], [6], True, 1.0, shape, outputs)


def biases_apart(shape, outputs):
    """A hidden layer of eight, with the biases as layers without a matrix, like BatchNorm's shifts.

    Rounding does not grow in it as it does under BatchNorm and Adam together.
    """
    model = small(shape, outputs)
    parts = [
        (
            Layer(layer.size - layer.matrix_rows, layer.matrix_rows, False),
            Layer(layer.matrix_rows, 0, False),
        )
        for layer in model.layers
    ]
    return model._replace(layers=tuple(chain.from_iterable(parts)))


class Traces:
    """A watcher that only keeps the traces."""

    def __init__(self):
        self.traces = []

    def after_steps(self, moment):
        self.traces.append((moment.task, moment.trace))

    def after_test(self, ended_tasks, accuracy):
        pass


def make_parts(
    dataset: Dataset,
    method,
    *,
    kind="split",
    scenario="task",
    samples=None,
    tasks=None,
    buffer=ring,
    memory_batch=6,
    device=CPU,
    model=small,
):
    """Parts with `method`, on three tasks of two classes or three permutations.

    tasks: how many of the three; None: all.
    """
    if kind == "split":
        benchmark = split(dataset, 2, scenario, samples_per_task=samples, first_tasks=tasks)
    else:
        benchmark = permuted(dataset, 3, samples_per_task=samples, first_tasks=tasks)
    with default_device(device):
        held = buffer(18, "total", benchmark.tasks, benchmark.classes_per_task)
    return Parts(
        benchmark._replace(images=benchmark.images.to(device), labels=benchmark.labels.to(device)),
        model(benchmark.image_shape, benchmark.outputs),
        method,
        held,
        sgd(0.0, 0.0),
        memory_batch,
    )


def make_replicas(parts, seeds=(0,), lrs=(0.1,), methods=None):
    """One replica a seed."""
    lrs = list(lrs) * len(seeds) if len(lrs) == 1 else lrs
    methods = methods or [parts.method] * len(seeds)
    return [
        Replica(seed, lr, method, parts.benchmark.make_stream(seed))
        for seed, lr, method in zip(seeds, lrs, methods, strict=True)
    ]


def train(parts, replicas, engine=None, watchers=(), plan=None):
    """Train to the end; returns the outcome."""
    plan = plan or TrainingPlan(1, 5, 1, 0)
    return train_replica_group(parts, replicas, engine or eager(), plan, watchers)


def steps_of_task(parts, replica, learner, task, batch=5):
    """Yield (learner before, draw, view, learner after, trace) of the steps of one task, which has
    not begun."""
    learner = tree_index(begin_task(parts, [replica], tree_stack([learner]), task), 0)
    step = make_step(parts, task, eager().make_gradient_function, True)
    orders = [
        pass_orders(replica.stream, replica.seed, task, 1, parts.method.shuffles_tasks_together)
    ]
    widths = draw_sizes(parts, task)
    view = replica.stream.view
    for draws in draw_chunks(orders, [replica.seed], [replica.lr], task, batch, widths, 0, 1000):
        for s in range(len(draws.rows)):
            draw = tree_index(tree_index(draws, s), 0)
            after, trace = step(learner, draw, view)
            yield learner, draw, view, after, trace
            learner = after


def same(left, right, tolerance=1e-5):
    """Assert that two outcomes agree: the learners, and the accuracies up to one test example."""
    compare(left.learners, right.learners, tolerance)
    assert abs(left.accuracy - right.accuracy).max() <= 0.1 + 1e-6


def compare(a, b, tolerance):
    """Assert that equally built trees of tensors agree."""
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    for x, y in () if isinstance(a, torch.Tensor) else zip(a, b, strict=True):
        compare(x, y, tolerance)
