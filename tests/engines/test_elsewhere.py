"""A run on a GPU never mixes devices, and a captured step neither reads a tensor's value nor copies
between devices. Both are tested on a simulated device, where results must be the CPU's."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_map

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.simulated import CaptureRules, simulated_graph, simulated_vmap
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.models.progressive import progressive
from gradalign_cli.numerics.quadratic import solve_by_pivoting
from gradalign_cli.numerics.simulated_device import SIMULATED, cpu_values_of, simulated_device
from gradalign_cli.training.plan import TrainingPlan
from tests.grids import rest_is_long
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.models.networks import everything
from tests.runs import make_parts, make_replicas, noisy, same, train

GRAPH, VMAP = simulated_graph(3), simulated_vmap(3)


def assert_agreement(engine, dataset, tested_method, plan=None, **options):
    """Assert that a run on the simulated device gives what a run on the CPU gives: of two replicas
    where they take a step at once."""
    plan = plan or TrainingPlan(1, 5, 3, 0)
    parts = make_parts(dataset, tested_method, **options)
    replicas = make_replicas(parts, seeds=(0, 1) if engine is VMAP else (0,), lrs=(0.05,))
    on_cpu = train(parts, replicas, vmap() if engine is VMAP else eager(), plan=plan)
    with simulated_device():
        parts = make_parts(dataset, tested_method, device=SIMULATED, **options)
        on_device = train(parts, replicas, engine, plan=plan)
    learners = tree_map(cpu_values_of, on_device.learners)
    same(on_cpu, on_device._replace(learners=learners), 1e-3)


@pytest.mark.parametrize("tasks", rest_is_long([2, 3], [2]))
@pytest.mark.parametrize("name", METHODS)
def test_methods(name, tasks, tiny):
    assert_agreement(GRAPH, tiny, method(name), samples=15, tasks=tasks)


@pytest.mark.parametrize("name", rest_is_long(METHODS, ["derpp", "gem", "gpm", "mer"]))
def test_methods_batched(name, tiny):
    assert_agreement(VMAP, tiny, method(name), samples=15)


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers(name, tiny):
    assert_agreement(GRAPH, tiny, method("er"), samples=18, buffer=buffer_factory(name))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("uniform", {"shrinks": True}),
        ("herding", {"shrinks": True}),
        ("gss_greedy", {"admission": "batch"}),
    ],
)
def test_buffers_with_settings_that_choose_other_operations(name, setting, tiny):
    buffer = partial(buffer_factory(name), **setting)
    assert_agreement(GRAPH, tiny, method("er"), samples=18, buffer=buffer)


def test_a_warm_up_before_a_task(tiny):
    warming = method("lwf", softmax="joint", warm_up_passes=1)
    assert_agreement(GRAPH, tiny, warming, samples=18, scenario="class")


@pytest.mark.parametrize("engine", [GRAPH, VMAP], ids=["graph", "vmap"])
def test_a_progressive_network(engine, tiny):
    model = partial(progressive, [8], "torch", 3)
    assert_agreement(engine, tiny, method("er"), samples=18, model=model)


@pytest.mark.parametrize("engine", [GRAPH, VMAP], ids=["graph", "vmap"])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "permuted"},
        {"scenario": "class"},
        {"scenario": "domain"},
        {"model": noisy},
        {"model": everything},
    ],
    ids=["permuted", "class", "domain", "noisy", "module"],
)
def test_benchmarks_tests_between_steps_and_noise(options, engine, tiny):
    assert_agreement(
        engine, tiny, method("derpp"), TrainingPlan(1, 5, 3, 1, 5, 6), samples=18, **options
    )


def test_pivoting_of_quadratic_programs():
    source = torch.Generator().manual_seed(0)
    G = torch.randn(5, 8, dtype=torch.float64, generator=source)
    program = G @ G.T, G.sum(1), G.new_zeros(5)
    with simulated_device():
        on_device = [tensor.to(SIMULATED) for tensor in program]
        with CaptureRules():
            v, residual = solve_by_pivoting(*on_device, 30)
    assert residual.cpu_values < 1e-9
    torch.testing.assert_close(v.cpu_values, solve_by_pivoting(*program, 30)[0])


@pytest.mark.parametrize(
    ("step", "message"),
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
def test_what_a_captured_step_must_not_do_is_caught(step, message):
    with simulated_device():
        x = torch.ones(3, device=SIMULATED)
        with pytest.raises(RuntimeError, match=message), CaptureRules():
            step(x)


def test_tensors_of_two_devices_do_not_meet():
    with simulated_device():
        x = torch.ones(3, device=SIMULATED)
        assert x.cpu().sum() == x.sum() == 3
        with pytest.raises(RuntimeError, match="meets tensors of two devices"):
            x + torch.ones(3)
        with pytest.raises(RuntimeError, match="meets tensors of two devices"):
            torch.ones(3)[x.long()]  # a CPU tensor needs CPU indices
