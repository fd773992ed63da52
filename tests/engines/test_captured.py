"""The replay of a recorded step is the step."""

from contextlib import contextmanager
from unittest.mock import Mock

import pytest
import torch

from gradalign_cli.engines.captured import WARM_UP, captured, cuda_graph, packed, unpacked
from gradalign_cli.engines.carry import (
    batched,
    one_after_other,
    side_by_side,
    step_by_step,
    streams_beside,
)
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.step.draws import Draw
from gradalign_cli.training.plan import Plan
from tests.methods.catalogue import METHODS, method
from tests.runs import compare, make_parts, make_replicas, noisy, same, train

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def replayed(function):
    """What a recording does, without a GPU: the same function, run again in place."""
    for _ in range(2):
        function()  # warming up moves the tensors, which must not matter
    return function


@pytest.mark.parametrize("name", ["agem", "gem", "derpp", "si", "vr_mcl"])
@pytest.mark.parametrize(
    ("carry", "loop"), [(one_after_other, eager()), (batched, vmap())], ids=["graph", "vmap"]
)
def test_a_replayed_recording_is_a_loop(name, carry, loop, tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.WORTH", 3)
    parts = make_parts(tiny, method(name), samples=38)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    plan = Plan(2, 5, 3, 2)  # two passes, a last batch of its own size, tests after the first steps
    engine = loop._replace(run=captured(carry, replayed))
    same(train(parts, replicas, loop, plan=plan), train(parts, replicas, engine, plan=plan))


@pytest.mark.parametrize("name", ["agem", "derpp"])
@pytest.mark.parametrize(
    ("carry", "loop"), [(one_after_other, eager()), (batched, vmap())], ids=["graph", "vmap"]
)
def test_a_recording_meets_new_noise_in_every_step(name, carry, loop, tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.WORTH", 3)
    parts = make_parts(tiny, method(name), samples=38, model=noisy)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    plan = Plan(2, 5, 3, 0)
    engine = loop._replace(run=captured(carry, replayed))
    same(train(parts, replicas, loop, plan=plan), train(parts, replicas, engine, plan=plan))


def test_a_packed_draw_is_the_draw():
    source = torch.Generator().manual_seed(0)
    floats = [torch.rand(4, 1, *shape, generator=source) for shape in ((3,), (0, 5), (1,), (2,))]
    rows, keys = torch.arange(28).view(4, 1, 7), 2**62 - torch.arange(8).view(4, 1, 2)
    draws = Draw(rows, rows + 1, *floats, torch.rand(4, 1, 7, 1), keys, torch.rand(1).expand(4, 1))
    rows_of_bytes = packed(draws)
    for step in range(4):
        compare(unpacked(rows_of_bytes[step], draws), tree_index(draws, step), 0)


class Stream:
    """A stream that only is another one."""

    now = None

    def wait_stream(self, other):
        assert other is not self


@pytest.fixture
def cuda(monkeypatch):
    """A torch.cuda that only knows which stream it is on; the default one is returned."""

    @contextmanager
    def on(stream):
        before, Stream.now = Stream.now, stream
        yield
        Stream.now = before

    default = Stream()
    monkeypatch.setattr(Stream, "now", default)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream.now)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: on(stream))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Mock)
    streams_beside.cache_clear()
    yield default
    streams_beside.cache_clear()


def test_a_step_is_captured_on_the_streams_it_was_warmed_up_on(cuda):
    streams = []
    cuda_graph(lambda: streams.append(Stream.now))
    assert len(streams) == WARM_UP + 1
    assert set(streams) == {streams[0]} != {cuda}


def test_replicas_on_streams_beside_each_other_are_a_loop(cuda, tiny):
    parts = make_parts(tiny, method("gem"), samples=18)
    replicas = make_replicas(parts, seeds=(0, 1))
    beside = eager()._replace(run=step_by_step(side_by_side))
    same(train(parts, replicas), train(parts, replicas, beside))
    assert len(streams_beside(2)) == 2
    assert streams_beside.cache_info().misses == 1


@needs_gpu
@pytest.mark.parametrize("engine", ["graph", "vmap", "streams"])
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_every_engine_is_a_loop_on_the_cpu(name, engine, tiny):
    from gradalign_cli.engines.choice import ENGINES

    device = torch.device("cuda")
    parts = make_parts(tiny, method(name), samples=40)
    there = make_parts(tiny, method(name), samples=40, device=device)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(there, replicas, ENGINES[engine](device)), 1e-3)


@needs_gpu
@pytest.mark.parametrize("engine", ["graph", "vmap", "streams"])
def test_on_a_gpu_noise_is_that_of_the_cpu(engine, tiny):
    from gradalign_cli.engines.choice import ENGINES

    device = torch.device("cuda")
    parts = make_parts(tiny, method("derpp"), samples=40, model=noisy)
    there = make_parts(tiny, method("derpp"), samples=40, model=noisy, device=device)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(there, replicas, ENGINES[engine](device)), 1e-3)
