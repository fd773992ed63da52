"""Augmentation in training: whose images, by which numbers, and alike in every engine."""

import numpy as np
import pytest
import torch

from gradalign_cli.augmentations.augmentation import Augmentation
from gradalign_cli.augmentations.combined import combined
from gradalign_cli.augmentations.crop_flip import crop_flip
from gradalign_cli.buffers.gss_greedy import gss_greedy
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.numerics.simulated_device import SIMULATED, cpu_values_of, simulated_device
from gradalign_cli.numerics.trees import tree_map
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.measurement import make_measure
from gradalign_cli.step.step import stream_batch
from gradalign_cli.training.memory_needs import random_numbers_per_step
from gradalign_cli.training.plan import TrainingPlan
from tests.engines.test_elsewhere import GRAPH, VMAP
from tests.methods.catalogue import method
from tests.runs import compare, make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import learner_after

SHAPE = (3, 4, 4)
ORDER = ["crop", "flip", "jitter", "erase"]
SETTINGS = (1, 0.5, 0.4, 0.0, 0.0, 0.1, 0.5, 0.1, 0.4, 2.0)
KINDS = {"derpp": "split", "agem": "permuted", "gem": "split", "s_gem": "split"}


@pytest.fixture(scope="module")
def coloured(tiny):
    """The tiny dataset with three channels."""
    images = np.concatenate([tiny.images, 255 - tiny.images, tiny.images // 2], 1)
    return tiny._replace(images=images)


def augmented_parts(dataset, name, augmentation=None, **options):
    """Small parts with a method, whose images are augmented in all ways at once."""
    options = {"samples": 18, "kind": KINDS.get(name, "split")} | options
    if augmentation is None:
        augmentation = combined(ORDER, *SETTINGS, SHAPE)
    return make_parts(dataset, method(name), **options)._replace(augmentation=augmentation)


def marked(calls):
    """An augmentation that changes nothing, and adds its images and numbers to `calls`."""

    def apply(images, uniform):
        calls.append((images.clone(), uniform.clone()))
        return images

    return Augmentation(2, apply)


@pytest.mark.parametrize(("name", "engine"), [("derpp", graph), ("agem", vmap)])
def test_batched_and_recorded_steps_augment_as_a_loop_does(name, engine, coloured, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.recorded.MIN_CALLS_TO_RECORD", 2)
    monkeypatch.setattr("gradalign_cli.engines.recorded.mkl_is_slow", lambda: False)
    parts = augmented_parts(coloured, name, samples=10, tasks=2)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    loop = train(parts, replicas, eager())
    tolerance = 1e-5 if engine is vmap else 0
    same(loop, train(parts, replicas, engine()), tolerance)
    plain = train(parts._replace(augmentation=None), replicas)
    assert not torch.allclose(loop.learners.params, plain.learners.params, atol=1e-3)


@pytest.mark.parametrize(("name", "engine"), [("derpp", GRAPH), ("agem", VMAP), ("gem", GRAPH)])
def test_captured_steps_augment_on_the_device_as_a_loop_does_on_the_cpu(
    name, engine, coloured, monkeypatch
):
    monkeypatch.setattr("gradalign_cli.engines.captured.MIN_CAPTURED_CHUNK_STEPS", 3)
    plan = TrainingPlan(1, 5, 3, 0)
    parts = augmented_parts(coloured, name, tasks=2)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    on_cpu = train(parts, replicas, vmap() if engine is VMAP else eager(), plan=plan)
    with simulated_device():
        parts = augmented_parts(coloured, name, tasks=2, device=SIMULATED)
        on_device = train(parts, replicas, engine, plan=plan)
    learners = tree_map(cpu_values_of, on_device.learners)
    same(on_cpu, on_device._replace(learners=learners), 1e-3)


@pytest.mark.parametrize("name", ["finetune", "agem", "s_gem", "gem", "er", "derpp", "vr_mcl"])
def test_in_a_step_every_example_has_numbers_of_its_own(name, tiny):
    calls = []
    parts = augmented_parts(tiny, name, marked(calls))
    (replica,) = make_replicas(parts)
    learner = learner_after(parts, replica, 2)
    calls.clear()
    _, draw, *_ = next(steps_of_task(parts, replica, learner, 2))
    drawn = torch.cat([uniform for _, uniform in calls])
    assert len(drawn) == 5 + draw_sizes(parts, 2).memory_examples
    assert torch.equal(drawn.sort(0).values, draw.augment_uniform.sort(0).values)
    assert len(drawn.unique(dim=0)) == len(drawn)
    assert all(len(images) == len(uniform) for images, uniform in calls)


def test_numbers_are_new_in_every_step_and_the_replicas_own(tiny):
    calls = []
    parts = augmented_parts(tiny, "finetune", marked(calls))
    train(parts, make_replicas(parts, seeds=(0, 1)))
    assert len(torch.cat([uniform for _, uniform in calls]).unique(dim=0)) == 2 * 3 * 18


@pytest.mark.parametrize("name", ["agem", "gem", "derpp", "mir"])
def test_an_augmentation_that_changes_nothing_moves_no_other_draw(name, tiny):
    parts = augmented_parts(tiny, name, marked([]))
    replicas = make_replicas(parts)
    same(train(parts._replace(augmentation=None), replicas), train(parts, replicas), 1e-6)


def test_without_augmentation_nothing_is_drawn_for_it(tiny):
    parts = make_parts(tiny, method("derpp"))
    assert draw_sizes(parts, 1).uniforms_per_image == 0
    (replica,) = make_replicas(parts)
    _, draw, *_ = next(steps_of_task(parts, replica, learner_after(parts, replica, 1), 1))
    assert draw.augment_uniform.shape == (0, 0)


def test_tests_and_the_end_of_a_task_see_images_as_they_are(tiny):
    calls = []
    parts = augmented_parts(tiny, "ewc", marked(calls))
    train(parts, make_replicas(parts), plan=TrainingPlan(1, 5, 1, 2))
    assert sum(len(images) for images, _ in calls) == 3 * 18


def test_what_the_crop_lets_in_is_black_before_pixels_are_standardised(tiny):
    parts = augmented_parts(tiny, "finetune", crop_flip(1, 0.0, (1, 4, 4)))
    mean, deviation = torch.full((16,), 0.5), torch.full((16,), 0.25)
    parts = parts._replace(benchmark=parts.benchmark._replace(pixel_mean=mean, pixel_std=deviation))
    (replica,) = make_replicas(parts)
    learner = learner_after(parts, replica, 0)
    _, draw, view, *_ = next(steps_of_task(parts, replica, learner, 0))
    corner = draw._replace(augment_uniform=torch.zeros_like(draw.augment_uniform))
    images = stream_batch(parts, 0, corner, view).images
    plain = stream_batch(parts._replace(augmentation=None), 0, draw, view).images
    assert torch.equal(images[:, :, 1:, 1:], plain[:, :, :-1, :-1])
    assert (images[:, :, 0] == -2).all()


def test_a_permuted_image_is_augmented_as_its_task_sees_it(tiny):
    parts = augmented_parts(tiny, "finetune", crop_flip(1, 1.0, (1, 4, 4)), kind="permuted")
    (replica,) = make_replicas(parts)
    learner = learner_after(parts, replica, 0)
    _, draw, view, *_ = next(steps_of_task(parts, replica, learner, 1))
    centre = draw._replace(augment_uniform=torch.full_like(draw.augment_uniform, 0.5))
    images = stream_batch(parts, 1, centre, view).images
    plain = stream_batch(parts._replace(augmentation=None), 1, draw, view).images
    assert torch.equal(images, plain.flip(-1))


def test_the_memory_stores_the_logits_of_the_augmented_image_as_ders_code_does(tiny):
    """observe() of DER's published code stores `outputs` of the augmented batch, and the images as
    they are; they are augmented anew when they are read."""
    parts = augmented_parts(tiny, "der", crop_flip(1, 0.5, (1, 4, 4)), buffer=reservoir)
    (replica,) = make_replicas(parts)
    learner = learner_after(parts, replica, 0)
    before, draw, view, after, _ = next(steps_of_task(parts, replica, learner, 0))
    batch = stream_batch(parts, 0, draw, view)
    output = parts.model.apply(before.params, before.statistics, batch.images, True, ())
    stored = after.memory.rows >= 0
    for slot in stored.nonzero()[:, 0].tolist():
        (place,) = (draw.rows == after.memory.rows[slot]).nonzero()[:, 0].tolist()
        torch.testing.assert_close(after.memory.stored_logits[slot], output.logits[place])
    assert stored.sum() == 5


def test_a_buffer_compares_gradients_on_images_as_they_are(tiny):
    black = Augmentation(1, lambda images, uniform: torch.zeros_like(images))
    parts = augmented_parts(
        tiny, "er", black, buffer=lambda *sizes: gss_greedy(*sizes, 5, "example")
    )
    (replica,) = make_replicas(parts)
    learner = learner_after(parts, replica, 1)
    _, draw, view, after, _ = next(steps_of_task(parts, replica, learner, 1))
    plain = parts._replace(augmentation=None)
    with_black_batch = make_measure(parts, 1)(after, stream_batch(parts, 1, draw, view), draw, view)
    expected = make_measure(plain, 1)(after, stream_batch(plain, 1, draw, view), draw, view)
    compare(with_black_batch, expected, 0)


def test_the_numbers_of_a_step_count_in_what_a_run_needs_of_memory(tiny):
    parts = augmented_parts(tiny, "derpp", crop_flip(1, 0.5, (1, 4, 4)))
    seen = 5 + draw_sizes(parts, 2).memory_examples
    added = random_numbers_per_step(parts, 5) - random_numbers_per_step(
        parts._replace(augmentation=None), 5
    )
    assert added == 3 * seen == 3 * (5 + 2 * 6)
