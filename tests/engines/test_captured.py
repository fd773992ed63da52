"""The replay of a captured step gives what the step gives."""

from contextlib import contextmanager
from unittest.mock import Mock

import pytest
import torch

from gradalign_cli.engines.captured import (
    WARM_UP_CALLS,
    capture_cuda_graph,
    make_captured_run,
    pack_draws,
    unpack_draw,
)
from gradalign_cli.engines.carry import (
    cuda_streams,
    make_plain_run,
    step_replicas_by_vmap,
    step_replicas_in_loop,
    step_replicas_on_streams,
)
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.step.draws import Draw
from gradalign_cli.training.plan import TrainingPlan
from tests.methods.catalogue import METHODS, method
from tests.runs import compare, make_parts, make_replicas, noisy, same, train

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def capture_on_cpu(function):
    """A capture without a GPU: its replay calls the function, which writes the same tensors."""
    for _ in range(2):
        function()  # as in a warm-up, what it writes must not matter
    return function


@pytest.mark.parametrize("name", ["agem", "gem", "derpp", "si", "vr_mcl"])
@pytest.mark.parametrize(
    ("step_replicas", "loop"),
    [(step_replicas_in_loop, eager()), (step_replicas_by_vmap, vmap())],
    ids=["graph", "vmap"],
)
def test_replays_give_what_a_loop_gives(name, step_replicas, loop, tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.MIN_CAPTURED_CHUNK_STEPS", 3)
    parts = make_parts(tiny, method(name), samples=38)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    plan = TrainingPlan(
        2, 5, 3, 2
    )  # two passes, a last batch of its own size, tests after the first steps
    engine = loop._replace(run_steps=make_captured_run(step_replicas, capture_on_cpu))
    same(train(parts, replicas, loop, plan=plan), train(parts, replicas, engine, plan=plan))


@pytest.mark.parametrize("name", ["agem", "derpp"])
@pytest.mark.parametrize(
    ("step_replicas", "loop"),
    [(step_replicas_in_loop, eager()), (step_replicas_by_vmap, vmap())],
    ids=["graph", "vmap"],
)
def test_replays_use_new_noise_in_every_step(name, step_replicas, loop, tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.MIN_CAPTURED_CHUNK_STEPS", 3)
    parts = make_parts(tiny, method(name), samples=38, model=noisy)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    plan = TrainingPlan(2, 5, 3, 0)
    engine = loop._replace(run_steps=make_captured_run(step_replicas, capture_on_cpu))
    same(train(parts, replicas, loop, plan=plan), train(parts, replicas, engine, plan=plan))


def test_an_unpacked_draw_is_the_draw_that_was_packed():
    source = torch.Generator().manual_seed(0)
    floats = [torch.rand(4, 1, *shape, generator=source) for shape in ((3,), (0, 5), (1,), (2,))]
    rows, keys = torch.arange(28).view(4, 1, 7), 2**62 - torch.arange(8).view(4, 1, 2)
    of_examples = torch.rand(4, 1, 7, 1), keys, torch.rand(4, 1, 7, 3)
    draws = Draw(rows, rows + 1, *floats, *of_examples, torch.rand(1).expand(4, 1))
    packed_draws = pack_draws(draws)
    for step in range(4):
        compare(unpack_draw(packed_draws[step], draws), tree_index(draws, step), 0)


class FakeStream:
    """A stand-in for a CUDA stream, which does nothing."""

    current = None

    def wait_stream(self, stream):
        assert stream is not self


@pytest.fixture
def default_stream(monkeypatch):
    """Replaces torch.cuda by stand-ins that only track the current stream; gives the default
    stream."""

    @contextmanager
    def use_stream(stream):
        previous, FakeStream.current = FakeStream.current, stream
        yield
        FakeStream.current = previous

    stream = FakeStream()
    monkeypatch.setattr(FakeStream, "current", stream)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", use_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: FakeStream.current)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: use_stream(stream))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Mock)
    cuda_streams.cache_clear()
    yield stream
    cuda_streams.cache_clear()


def test_a_step_is_captured_on_the_stream_it_was_warmed_up_on(default_stream):
    streams = []
    capture_cuda_graph(lambda: streams.append(FakeStream.current))
    assert len(streams) == WARM_UP_CALLS + 1
    assert set(streams) == {streams[0]} != {default_stream}


@pytest.mark.usefixtures("default_stream")
def test_replicas_on_their_own_streams_give_what_a_loop_gives(tiny):
    parts = make_parts(tiny, method("gem"), samples=18)
    replicas = make_replicas(parts, seeds=(0, 1))
    on_streams = eager()._replace(run_steps=make_plain_run(step_replicas_on_streams))
    same(train(parts, replicas), train(parts, replicas, on_streams))
    assert len(cuda_streams(2)) == 2
    assert cuda_streams.cache_info().misses == 1


@needs_gpu
@pytest.mark.parametrize("engine", ["graph", "vmap", "streams"])
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_every_engine_gives_what_a_loop_on_the_cpu_gives(name, engine, tiny):
    from gradalign_cli.engines.choice import ENGINES

    device = torch.device("cuda")
    parts = make_parts(tiny, method(name), samples=40)
    gpu_parts = make_parts(tiny, method(name), samples=40, device=device)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(gpu_parts, replicas, ENGINES[engine](device)), 1e-3)


@needs_gpu
@pytest.mark.parametrize("engine", ["graph", "vmap", "streams"])
def test_on_a_gpu_noise_is_the_same_as_on_the_cpu(engine, tiny):
    from gradalign_cli.engines.choice import ENGINES

    device = torch.device("cuda")
    parts = make_parts(tiny, method("derpp"), samples=40, model=noisy)
    gpu_parts = make_parts(tiny, method("derpp"), samples=40, model=noisy, device=device)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(gpu_parts, replicas, ENGINES[engine](device)), 1e-3)
