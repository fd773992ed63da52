"""What a run needs of memory is known before it takes it."""

import json
from functools import partial

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.errors import UserError
from gradalign_cli.models.convnet import Block, convnet
from gradalign_cli.models.mlp import mlp
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.training.memory_estimate import learner_on_meta_device, tensor_bytes
from gradalign_cli.training.memory_needs import (
    GIB,
    MemoryNeed,
    check_needs,
    layer_output_bytes,
    needs_of_parts,
    needs_of_run,
    total_need_text_if_large,
)
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import new_learner
from tests.methods.catalogue import METHODS, method
from tests.runs import make_parts, make_replicas, train

PLAN = TrainingPlan(2, 10, 1, 0)


def wide(shape, outputs):
    return mlp([3000, 300], "torch", True, shape, outputs)


def convolutional(shape, outputs):
    return convnet([Block(200, 3, 1, (2, 1, 0))] * 2, [50], False, 1.0, shape, outputs)


def peak_bytes(work, file):
    """The most bytes that tensors take while `work` is done, as PyTorch's allocator counts them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        work()
    measured.export_chrome_trace(str(file))
    events = json.loads(file.read_text())["traceEvents"]
    totals = [e["args"]["Total Allocated"] for e in events if e["name"] == "[memory]"]
    first = next(e["args"] for e in events if e["name"] == "[memory]")
    return max(totals) - (first["Total Allocated"] - first["Bytes"])


def test_what_does_not_grow_with_the_examples_is_not_counted_for_each(tiny):
    parts = make_parts(tiny, method("er"))

    def apply(params, *inputs):
        output = parts.model.apply(params, *inputs)
        return output._replace(logits=output.logits + torch.ones(1000, 1000).sum())

    with_constant = parts._replace(model=parts.model._replace(apply=apply))
    more = sum(layer_output_bytes(with_constant)) - sum(layer_output_bytes(parts))
    assert more == 4 * parts.benchmark.outputs  # the logits with the constant added


@pytest.mark.parametrize("name", METHODS)
def test_the_state_of_every_method_is_known_without_taking_its_memory(name, tiny):
    parts = make_parts(tiny, method(name))
    (replica,) = make_replicas(parts)
    shapes = learner_on_meta_device(parts, replica)
    assert tensor_bytes(shapes) == tensor_bytes(new_learner(parts, replica))
    assert shapes.params.is_meta


@pytest.mark.parametrize(
    ("name", "model", "slots", "seeds"),
    [
        ("agem", wide, 18, 1),  # gradients
        ("gem", wide, 18, 2),
        ("derpp", wide, 18, 1),
        ("er", convolutional, 18, 1),  # what the network makes of images
        ("er", partial(mlp, [8], "torch", True), 20000, 1),  # memory and random numbers
    ],
)
def test_an_estimate_is_within_a_factor_of_two_of_the_peak(
    name, model, slots, seeds, tiny, tmp_path
):
    parts = make_parts(
        tiny, method(name), model=model, buffer=lambda _, *rest: reservoir(slots, *rest), samples=20
    )
    replicas = make_replicas(parts, seeds=range(seeds), lrs=(1e-3,))
    needs = sum(need.bytes for need in needs_of_run(parts, replicas, PLAN, "eager", CPU))
    peak = peak_bytes(lambda: train(parts, replicas, plan=PLAN), tmp_path / "trace.json")
    assert peak / 2 < needs < 2 * peak


@pytest.mark.parametrize(
    ("sizes", "setting"),
    [
        ({"slots": 10**9}, "buffer.capacity"),
        ({"widths": [10**6, 10**6]}, "model"),
        ({"tasks": 10**8}, "benchmark.tasks"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_made(sizes, setting, tiny):
    parts = make_parts(tiny, method("agem"))
    benchmark = parts.benchmark._replace(tasks=sizes.get("tasks", 3))
    model = mlp(sizes.get("widths", [8]), "torch", True, benchmark.image_shape, 6)
    with pytest.raises(UserError, match=rf"`{setting}` must be smaller: the run needs .* GiB free"):
        check_needs(needs_of_parts(benchmark, model, sizes.get("slots", 9), 1), 10 * GIB)


def test_more_passes_than_fit_are_refused(tiny):
    parts = make_parts(tiny, method("er"))
    needs = needs_of_run(parts, make_replicas(parts), TrainingPlan(10**9, 5, 1, 0), "eager", CPU)
    with pytest.raises(UserError, match="`passes` must be smaller"):
        check_needs(needs, 10 * GIB)


def test_angles_that_are_never_measured_again_take_no_memory(tiny):
    parts = make_parts(tiny, method("er"), samples=10)
    assert train(parts, make_replicas(parts), plan=TrainingPlan(1, 5, 10**12, 0)).steps == 3 * 2


def test_a_batch_is_never_larger_than_its_task(tiny):
    parts = make_parts(tiny, method("er"))
    needs = [
        needs_of_run(parts, make_replicas(parts), TrainingPlan(1, batch, 1, 0), "eager", CPU)
        for batch in (40, 10**9)  # a task has 40 examples
    ]
    assert needs[0] == needs[1]


def test_a_refusal_names_the_largest_need_and_a_run_says_what_it_needs_above_a_gibibyte():
    needs = [MemoryNeed("small things", GIB / 4, "a"), MemoryNeed("large things", GIB, "b.c")]
    check_needs(needs, 1.5 * GIB)
    with pytest.raises(UserError) as refusal:
        check_needs(needs, 1.4 * GIB)
    assert str(refusal.value) == (
        "`b.c` must be smaller: the run needs 1.5 GiB of memory, 1.0 GiB of it for large things, "
        "found 1.4 GiB free"
    )
    assert total_need_text_if_large(needs) == ", needs about 1.5 GiB of memory"
    assert total_need_text_if_large(needs[:1]) == ""


def test_replicas_that_take_a_step_at_once_need_their_gradients_at_once(tiny):
    parts = make_parts(tiny, method("agem"), model=wide)
    replicas = make_replicas(parts, seeds=range(4))
    one, all_at_once = (
        sum(need.bytes for need in needs_of_run(parts, replicas, PLAN, engine, CPU))
        for engine in ("eager", "vmap")
    )
    assert (
        all_at_once - one
        > 3 * 4 * 4 * torch.tensor([layer.size for layer in parts.model.layers]).sum()
    )
