"""A step can be recorded: it looks at no tensor, and its replay is the step."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import batched, one_after_other
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.quadratic import pivoting
from gradalign_cli.runner import Plan
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, noisy, same, steps_of_task, train

LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def replayed(function):
    """What a recording does, without a GPU: the same function, run again in place."""
    for _ in range(2):
        function()  # warming up moves the tensors, which must not matter
    return function


class Unseen(TorchDispatchMode):
    """Fails where Python asks for the content of a tensor, for which a GPU would have to wait."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in str(function) for name in LOOKS), f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", METHODS)
def test_no_step_looks_at_a_tensor(name, tiny, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)  # the CPU's shortcuts are not taken on a GPU
    parts = make_parts(tiny, method(name), samples=20)
    (replica,) = make_replicas(parts)
    learner = train(parts, [replica]).learners
    learner = torch.utils._pytree.tree_map(lambda t: t[0], learner)
    for task in (0, 2):
        steps = steps_of_task(parts, replica, learner, task)
        next(steps)  # builds the step, which may look at what it is built of
        with Unseen():
            *_, last = steps
        assert torch.isfinite(last[3].params).all()


def test_the_pivots_of_quadratic_programs_look_at_no_tensor(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    source = torch.Generator().manual_seed(0)
    G = torch.randn(5, 8, dtype=torch.float64, generator=source)
    with Unseen():
        v, residual = pivoting(G @ G.T, G.sum(1), G.new_zeros(5), 30)
    assert residual < 1e-9
    assert (v > 0).any()


@pytest.mark.parametrize("name", BUFFERS)
def test_no_buffer_looks_at_a_tensor(name, tiny):
    parts = make_parts(tiny, method("er"), samples=20, buffer=buffer_factory(name))
    (replica,) = make_replicas(parts)
    learner = torch.utils._pytree.tree_map(lambda t: t[0], train(parts, [replica]).learners)
    steps = steps_of_task(parts, replica, learner, 1)
    next(steps)
    with Unseen():
        *_, last = steps
    assert torch.isfinite(last[3].params).all()


@pytest.mark.parametrize("name", ["agem", "gem", "derpp", "si"])
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


def test_a_step_with_noise_looks_at_no_tensor(tiny, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    parts = make_parts(tiny, method("derpp"), samples=20, model=noisy)
    (replica,) = make_replicas(parts)
    learner = torch.utils._pytree.tree_map(lambda t: t[0], train(parts, [replica]).learners)
    steps = steps_of_task(parts, replica, learner, 2)
    next(steps)
    with Unseen():
        *_, last = steps
    assert torch.isfinite(last[3].params).all()


@needs_gpu
@pytest.mark.parametrize("engine", ["graph", "vmap", "streams"])
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_every_engine_is_a_loop_on_the_cpu(name, engine, tiny):
    from gradalign_cli.config import ENGINES

    device = torch.device("cuda")
    parts = make_parts(tiny, method(name), samples=40)
    there = make_parts(tiny, method(name), samples=40, device=device)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(there, replicas, ENGINES[engine](device)), 1e-3)


@needs_gpu
@pytest.mark.parametrize("engine", ["graph", "vmap", "streams"])
def test_on_a_gpu_noise_is_that_of_the_cpu(engine, tiny):
    from gradalign_cli.config import ENGINES

    device = torch.device("cuda")
    parts = make_parts(tiny, method("derpp"), samples=40, model=noisy)
    there = make_parts(tiny, method("derpp"), samples=40, model=noisy, device=device)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(there, replicas, ENGINES[engine](device)), 1e-3)
