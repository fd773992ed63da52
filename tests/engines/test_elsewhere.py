"""What runs on a GPU mixes no devices, and what is captured looks at no tensor and moves none,
as seen on a device that is not there, whose numbers must be the CPU's."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import batched, one_after_other
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.engines.vmap import all_together, vmap
from gradalign_cli.numerics.quadratic import pivoting
from gradalign_cli.numerics.vectors import autograd_gradient, functional_gradient
from gradalign_cli.training.plan import Plan
from tests.elsewhere import ELSEWHERE, Held, elsewhere, numbers_of
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, noisy, same, train

LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")
CHECKS = ("_linalg_check_errors", "_linalg_eigh", "_linalg_svd")  # of what a library has computed


class Still(TorchDispatchMode):
    """Fails where a captured step would wait for the device, or copy to or from it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.overloadpacket.__name__, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [isinstance(tensor, Held) for tensor in tensors if tensor.dim()]
        masked = name == "index" and any(tensor.dtype == torch.bool for tensor in tensors[1:])
        if any(isinstance(tensor, Held) for tensor in tensors):
            assert name not in LOOKS + CHECKS, f"{function} waits for the device"
            assert not masked, f"{function} waits for the device"
        assert all(there) or not any(there), f"{function} copies between devices"
        if name == "_to_copy" and kwargs.get("device"):
            assert tensors[0].device == kwargs["device"], f"{function} copies between devices"
        return function(*args, **kwargs)


def strictly(function):
    """What a recording does on a GPU, where nothing in it may wait."""

    def replay():
        with Still():
            function()

    for _ in range(2):
        replay()  # warming up moves the tensors, which must not matter
    return replay


GRAPH = Engine(
    "graph", ELSEWHERE, autograd_gradient, captured(one_after_other, strictly), one_by_one
)
VMAP = Engine("vmap", ELSEWHERE, functional_gradient, captured(batched, strictly), all_together)


@pytest.fixture(autouse=True)
def short_recordings(monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.captured.WORTH", 3)


def agree(engine, dataset, chosen, plan=None, **options):
    """Assert that a run elsewhere gives what it gives here."""
    plan = plan or Plan(1, 5, 3, 0)
    parts = make_parts(dataset, chosen, **options)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    here = train(parts, replicas, vmap() if engine is VMAP else eager(), plan=plan)
    with elsewhere():
        parts = make_parts(dataset, chosen, device=ELSEWHERE, **options)
        found = train(parts, replicas, engine, plan=plan)
    same(here, found._replace(learners=tree_map(numbers_of, found.learners)), 1e-3)


@pytest.mark.parametrize("engine", [GRAPH, VMAP], ids=["graph", "vmap"])
@pytest.mark.parametrize("name", METHODS)
def test_methods(name, engine, tiny):
    agree(engine, tiny, method(name), samples=18)


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers(name, tiny):
    agree(GRAPH, tiny, method("er"), samples=18, buffer=buffer_factory(name))


@pytest.mark.parametrize("engine", [GRAPH, VMAP], ids=["graph", "vmap"])
@pytest.mark.parametrize(
    "options",
    [{"kind": "permuted"}, {"scenario": "class"}, {"scenario": "domain"}, {"model": noisy}],
    ids=["permuted", "class", "domain", "noisy"],
)
def test_benchmarks_tests_between_steps_and_noise(options, engine, tiny):
    agree(engine, tiny, method("derpp"), Plan(1, 5, 3, 1, 5, 6), samples=18, **options)


def test_the_pivots_of_quadratic_programs():
    source = torch.Generator().manual_seed(0)
    G = torch.randn(5, 8, dtype=torch.float64, generator=source)
    given = G @ G.T, G.sum(1), G.new_zeros(5)
    with elsewhere():
        there = [each.to(ELSEWHERE) for each in given]
        with Still():
            v, residual = pivoting(*there, 30)
    assert residual.numbers < 1e-9
    torch.testing.assert_close(v.numbers, pivoting(*given, 30)[0])


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (lambda x: x + torch.ones(3), "copies between devices"),
        (lambda x: x + torch.rand(3, device=x.device, generator=torch.Generator()), "generator"),
        (lambda x: x if x.sum() > 0 else -x, "waits for the device"),
        (lambda x: x[x > 0], "waits for the device"),
        (lambda x: x * x.new_tensor(2.0), "copies between devices"),
        (lambda x: x[torch.tensor([0])], "copies between devices"),
        (lambda x: torch.linalg.solve(x.diag(), x), "waits for the device"),
    ],
)
def test_what_a_captured_step_must_not_do_is_caught(step, sentence):
    with elsewhere():
        x = torch.ones(3, device=ELSEWHERE)
        with pytest.raises((RuntimeError, AssertionError), match=sentence), Still():
            step(x)


def test_tensors_of_two_devices_do_not_meet():
    with elsewhere():
        x = torch.ones(3, device=ELSEWHERE)
        assert x.cpu().sum() == x.sum() == 3
        with pytest.raises(RuntimeError, match="meets tensors of two devices"):
            x + torch.ones(3)
        with pytest.raises(RuntimeError, match="meets tensors of two devices"):
            torch.ones(3)[x.long()]  # places of a CPU's tensor must be the CPU's
