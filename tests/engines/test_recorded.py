"""A recorded step gives what the step gives: the same operations on the same numbers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.engines import recorded
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.models.convnet import lenet
from gradalign_cli.models.resnet import resnet18
from gradalign_cli.training.plan import TrainingPlan
from tests.grids import rest_is_long
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, same, train

PLAN = TrainingPlan(2, 5, 3, 2)  # two passes, a smaller last batch, tests after the first steps
SHORT = TrainingPlan(1, 5, 1, 0)


@pytest.fixture(autouse=True)
def recordings(monkeypatch):
    """Steps are recorded from the second one of a batch size; gives a list with an entry for each
    recording, and asserts that the test made some."""
    calls = []

    def log_and_record(*arguments):
        calls.append(arguments)
        return record_operations(*arguments)

    record_operations = recorded.record_operations
    monkeypatch.setattr(recorded, "MIN_CALLS_TO_RECORD", 2)
    monkeypatch.setattr(recorded, "mkl_is_slow", lambda: False)  # see test_products.py
    monkeypatch.setattr(recorded, "record_operations", log_and_record)
    yield calls
    assert calls


@pytest.mark.parametrize("tasks", rest_is_long([2, 3], [2]))
@pytest.mark.parametrize("name", METHODS)
def test_the_recorded_step_of_every_method_is_bit_for_bit_the_step(name, tasks, tiny):
    parts = make_parts(tiny, method(name), samples=15, tasks=tasks)
    replicas = make_replicas(parts, lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    same(loop, train(parts, replicas, graph(), plan=SHORT), tolerance=0)


@pytest.mark.parametrize("name", BUFFERS)
def test_a_recorded_step_writes_every_buffer_as_the_step_does(name, tiny):
    parts = make_parts(tiny, method("derpp"), samples=15, tasks=2, buffer=buffer_factory(name))
    replicas = make_replicas(parts, lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    same(loop, train(parts, replicas, graph(), plan=SHORT), tolerance=0)


@pytest.mark.parametrize("engine", [streams, vmap])
@pytest.mark.parametrize("name", ["gem", "derpp"])
def test_recorded_steps_of_several_replicas_give_what_a_loop_gives(name, engine, tiny):
    parts = make_parts(tiny, method(name), samples=38, tasks=3 if name == "gem" else 2)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=PLAN)
    same(loop, train(parts, replicas, engine(), plan=PLAN), tolerance=1e-5)


def test_two_threads_at_the_same_step_make_one_recording(recordings, monkeypatch):
    barrier = threading.Barrier(2)

    def record_slowly(step, *inputs):
        recordings.append(inputs)
        time.sleep(0.2)  # in which the second thread reaches the step
        return step

    monkeypatch.setattr(recorded, "record_operations", record_slowly)
    monkeypatch.setattr(recorded, "MIN_CALLS_TO_RECORD", 1)
    recorded_step = recorded.with_recorded_operations(lambda learner, draw, view: (learner, view))
    draw = SimpleNamespace(rows=torch.zeros(2))

    def take_step(_):
        barrier.wait()
        return recorded_step("learner", draw, "view")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(take_step, range(2))) == [("learner", "view")] * 2
    assert len(recordings) == 1


def published_resnet(shape, outputs):
    return resnet18(2, True, shape, outputs, padding="tensorflow", batch_norm="agem")


@pytest.mark.parametrize("make_network", rest_is_long([lenet, published_resnet], [lenet]))
def test_steps_with_convolutions_are_recorded(make_network, tiny):
    parts = make_parts(tiny, method("gem"), samples=15, tasks=2)
    network = make_network((1, 32, 32), parts.benchmark.outputs)

    def apply(params, statistics, images, training, noise_keys):
        large = torch.nn.functional.interpolate(images, (32, 32))
        return network.apply(params, statistics, large, training, noise_keys)

    parts = parts._replace(model=network._replace(apply=apply))
    replicas = make_replicas(parts, lrs=(0.01,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    same(loop, train(parts, replicas, graph(), plan=SHORT), tolerance=0)
