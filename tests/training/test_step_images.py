"""Where a dataset is too large for the device, steps find their images there all the same."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from gradalign_cli.augmentations.flip import flip
from gradalign_cli.benchmarks.benchmark import benchmark_on_device
from gradalign_cli.benchmarks.loading import stored_images
from gradalign_cli.engines import recorded
from gradalign_cli.engines.choice import ENGINES
from gradalign_cli.engines.simulated import simulated_graph, simulated_vmap
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.simulated_device import (
    SIMULATED,
    SimulatedTensor,
    cpu_values_of,
    simulated_device,
)
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.step.draws import Draw
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.step_images import (
    StepImages,
    peak_device_image_bytes,
    replicas_within_image_budget,
    rounded_up,
)
from tests.methods.catalogue import buffer_factory, method
from tests.runs import compare, make_parts, make_replicas, noisy, train

PLAN = TrainingPlan(1, 5, 1, 1, 2, 6)  # chunks of two steps; tests after each


def parts_of(dataset, name, buffer, **options):
    """Small parts whose dataset has 150 images, and a memory that takes 18 of them."""
    return make_parts(dataset, method(name), buffer=buffer_factory(buffer), **options)


def with_images_on_host(parts, device=CPU):
    """The parts with all of the benchmark but its images on a device."""
    benchmark = benchmark_on_device(parts.benchmark, device, parts.benchmark.images.numel() - 1)
    assert benchmark.images_on_host
    return parts._replace(benchmark=benchmark)


def assert_equal(left, right):
    """Assert that two outcomes are the same, bit for bit."""
    compare(left.learners, right.learners, 0)
    for name in ("accuracy", "learning_curves"):
        assert (getattr(left, name) == getattr(right, name)).all()


@pytest.mark.parametrize(
    ("engine", "seeds", "name", "buffer", "options"),
    [
        ("eager", (0,), "er", "ring", {"scenario": "class"}),
        ("eager", (0, 1), "er", "loss_aware", {}),
        ("eager", (0, 1), "agem", "reservoir", {}),
        ("eager", (0,), "gem", "herding", {"memory_batch": None}),
        ("eager", (0, 1), "derpp", "reservoir", {"kind": "permuted", "model": noisy}),
        ("graph", (0,), "agem", "reservoir", {}),
        ("streams", (0, 1), "gem", "ring", {}),
        ("vmap", (0, 1), "er", "reservoir", {}),
    ],
)
def test_a_run_is_bit_for_bit_that_with_the_dataset_on_the_device(
    engine, seeds, name, buffer, options, tiny, monkeypatch
):
    monkeypatch.setattr(recorded, "MIN_CALLS_TO_RECORD", 3)
    parts = parts_of(tiny, name, buffer, samples=20, **options)
    replicas = make_replicas(parts, seeds)
    whole = train(parts, replicas, ENGINES[engine](), plan=PLAN)
    assert_equal(whole, train(with_images_on_host(parts), replicas, ENGINES[engine](), plan=PLAN))


def test_images_are_augmented_as_those_of_a_dataset_on_the_device(tiny):
    parts = parts_of(tiny, "er", "reservoir", samples=20)
    parts = parts._replace(augmentation=flip(0.5, parts.benchmark.image_shape))
    replicas = make_replicas(parts)
    whole = train(parts, replicas, plan=PLAN)
    assert_equal(whole, train(with_images_on_host(parts), replicas, plan=PLAN))


class ImagesOnDevice(TorchDispatchMode):
    """Counts the bytes of images that are put on the simulated device and are not freed yet, and
    the most that there were."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels, self.present, self.most = pixels, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        is_new = function.overloadpacket.__name__ in ("zeros", "_to_copy")
        on_device = isinstance(result, SimulatedTensor) and result.dtype == torch.uint8
        if is_new and on_device and result.shape[-1] == self.pixels:
            self.add(result.numel())
            weakref.finalize(result.cpu_values, self.add, -result.numel())
        return result

    def add(self, count):
        self.present += count
        self.most = max(self.most, self.present)


@pytest.mark.parametrize(
    ("engine", "name", "buffer"),
    [(simulated_graph(2), "er", "reservoir"), (simulated_vmap(2), "gem", "ring")],
    ids=["graph", "vmap"],
)
def test_a_device_holds_no_more_images_than_said_and_ends_with_the_same_bits(
    engine, name, buffer, tiny
):
    outcomes, most = [], []
    with simulated_device():
        for on_host in (False, True):
            counter, parts = ImagesOnDevice(16), parts_of(tiny, name, buffer, samples=20)
            replicas = make_replicas(parts, (0, 1))
            on_device = parts_of(tiny, name, buffer, samples=20, device=SIMULATED)
            with counter:
                benchmark = benchmark_on_device(parts.benchmark, SIMULATED, 2399 + (not on_host))
                parts = on_device._replace(benchmark=benchmark)
                outcomes.append(train(parts, replicas, engine, plan=PLAN))
            most.append(counter.most)
    whole, windowed = outcomes
    learners = [tree_map(cpu_values_of, outcome.learners) for outcome in outcomes]
    compare(*learners, 0)
    assert (whole.accuracy == windowed.accuracy).all()
    assert most[0] == 150 * 16
    assert most[1] <= peak_device_image_bytes(parts, 2, PLAN, SIMULATED) < most[0]


def test_the_images_of_a_chunk_stay_while_those_of_the_next_one_come(tiny, monkeypatch):
    parts = with_images_on_host(parts_of(tiny, "er", "reservoir"))
    images, source = StepImages(parts, 1, PLAN, CPU), torch.Generator().manual_seed(0)
    learners = tree_stack([new_learner(parts, make_replicas(parts)[0])])
    copied = []
    copy = images.copy_to_places
    monkeypatch.setattr(images, "copy_to_places", lambda *of: copied.append(of) or copy(*of))
    no_draw = Draw._make([torch.zeros(0)] * len(Draw._fields))
    rows_of_chunks = torch.randint(0, 150, (40, 2, 1, 5), generator=source)
    chunks = [no_draw._replace(rows=rows) for rows in rows_of_chunks]
    for number, (draws, next_draws) in enumerate(images.with_next(iter(chunks))):
        copied.clear()
        meanwhile = images.load_and_get_prefetch(draws, next_draws, learners)
        assert bool(copied) == (number == 0)  # the others were copied ahead
        meanwhile()
        stored = learners.memory.rows
        rows = torch.cat([draws.rows.flatten(), stored.flatten().clamp_min(0)])
        expected = parts.benchmark.images[rows]
        torch.testing.assert_close(stored_images(images.parts.benchmark, rows), expected)
        arrived = draws.rows.flatten()[torch.randint(0, 10, stored.shape, generator=source)]
        stays = torch.rand(stored.shape, generator=source) < 0.7
        memory = learners.memory._replace(rows=torch.where(stays, stored, arrived))
        learners = learners._replace(memory=memory)


def test_the_next_chunk_is_drawn_ahead_only_where_its_images_are_brought(tiny):
    whole = parts_of(tiny, "er", "reservoir")
    ahead = StepImages(with_images_on_host(whole), 1, PLAN, CPU)
    assert list(ahead.with_next(iter("abc"))) == [("a", "b"), ("b", "c"), ("c", None)]
    assert not list(ahead.with_next(iter(())))
    assert list(StepImages(whole, 1, PLAN, CPU).with_next(iter("ab"))) == [("a", None), ("b", None)]


def test_fewer_replicas_train_at_once_where_the_device_has_room_for_the_images_of_few(tiny):
    parts = with_images_on_host(parts_of(tiny, "er", "reservoir"))
    one, two, three = (peak_device_image_bytes(parts, count, PLAN, CPU) for count in (1, 2, 3))
    budgets = (one, two - 1, two, three)
    counts = [replicas_within_image_budget(parts, PLAN, budget, CPU) for budget in budgets]
    assert counts == [1, 1, 2, 3]
    with pytest.raises(UserError, match=r"`image_budget` must be at least .* one replica, found"):
        replicas_within_image_budget(parts, PLAN, one - 1, CPU)


@pytest.mark.parametrize("value", [0.00010711, 0.5, 1.0, 12.3456, 999.9])
def test_the_least_budget_that_is_told_is_enough(value):
    told = float(rounded_up(value))
    assert value <= told <= 1.01 * value
