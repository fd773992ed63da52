"""A recorded step is the step: the same operations on the same numbers."""

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
from gradalign_cli.training.plan import Plan
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, same, train

PLAN = Plan(2, 5, 3, 2)  # two passes, a last batch of its own size, tests after the first steps
SHORT = Plan(1, 5, 1, 0)


@pytest.fixture(autouse=True)
def recorded_at_once(monkeypatch):
    """From the second step of a size, and never less often than it seems."""
    made = []

    def count(*given):
        made.append(given)
        return record(*given)

    record = recorded.record
    monkeypatch.setattr(recorded, "WORTH", 2)
    monkeypatch.setattr(recorded, "slow_products", lambda: False)  # test_products.py has these
    monkeypatch.setattr(recorded, "record", count)
    yield made
    assert made


@pytest.mark.parametrize("name", METHODS)
def test_a_recording_of_every_method_is_bit_for_bit_its_step(name, tiny):
    parts = make_parts(tiny, method(name), samples=15)
    replicas = make_replicas(parts, lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    same(loop, train(parts, replicas, graph(), plan=SHORT), tolerance=0)


@pytest.mark.parametrize("name", BUFFERS)
def test_a_recording_writes_every_buffer_as_its_step_does(name, tiny):
    parts = make_parts(tiny, method("derpp"), samples=15, buffer=buffer_factory(name))
    replicas = make_replicas(parts, lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    same(loop, train(parts, replicas, graph(), plan=SHORT), tolerance=0)


@pytest.mark.parametrize("engine", [streams, vmap])
@pytest.mark.parametrize("name", ["gem", "derpp"])
def test_recordings_of_several_replicas_are_a_loop_over_them(name, engine, tiny):
    parts = make_parts(tiny, method(name), samples=38)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=PLAN)
    same(loop, train(parts, replicas, engine(), plan=PLAN), tolerance=1e-5)


def test_threads_that_come_while_a_recording_is_made_share_it(recorded_at_once, monkeypatch):
    together = threading.Barrier(2)

    def slow(step, *given):
        recorded_at_once.append(given)
        time.sleep(0.2)  # the other thread comes meanwhile
        return step

    monkeypatch.setattr(recorded, "record", slow)
    monkeypatch.setattr(recorded, "WORTH", 1)
    take = recorded.recorded(lambda learner, draw, view: (learner, view))
    draw = SimpleNamespace(rows=torch.zeros(2))

    def come(_):
        together.wait()
        return take("learner", draw, "view")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(come, range(2))) == [("learner", "view")] * 2
    assert len(recorded_at_once) == 1


def test_convolutions_are_recorded_too(tiny):
    parts = make_parts(tiny, method("gem"), samples=15)
    network = lenet((1, 32, 32), parts.benchmark.outputs)

    def apply(params, statistics, x, training, noise):
        large = torch.nn.functional.interpolate(x, (32, 32))
        return network.apply(params, statistics, large, training, noise)

    parts = parts._replace(model=network._replace(apply=apply))
    replicas = make_replicas(parts, lrs=(0.01,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    same(loop, train(parts, replicas, graph(), plan=SHORT), tolerance=0)
