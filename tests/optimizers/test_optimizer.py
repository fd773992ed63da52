"""Optimizers in a run: alike in every engine, and what becomes of their state at a task's end."""

import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.numerics.simulated_device import SIMULATED, cpu_values_of, simulated_device
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.optimizers.adam import adam
from gradalign_cli.optimizers.adamw import adamw
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.training.plan import TrainingPlan
from tests.engines.test_elsewhere import GRAPH, VMAP
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, same, train

OPTIMIZERS = {
    "nesterov": sgd(0.9, 0.01, True, "reset"),
    "adam": adam(0.9, 0.99, 1e-4, 0.01, "keep"),
    "adamw": adamw(0.9, 0.99, 1e-4, 0.01, "reset"),
}


def parts_with(dataset, name, aligned="gradient", **options):
    """Small A-GEM parts with an optimizer."""
    parts = make_parts(dataset, method("agem"), samples=10, tasks=2, **options)
    return parts._replace(optimizer=OPTIMIZERS[name], aligned_vector=aligned)


@pytest.mark.parametrize(
    ("name", "aligned"), [("nesterov", "update"), ("adam", "gradient"), ("adamw", "update")]
)
def test_batched_recorded_and_captured_steps_are_those_of_a_loop(name, aligned, tiny, monkeypatch):
    monkeypatch.setattr("gradalign_cli.engines.recorded.MIN_CALLS_TO_RECORD", 2)
    monkeypatch.setattr("gradalign_cli.engines.recorded.mkl_is_slow", lambda: False)
    monkeypatch.setattr("gradalign_cli.engines.captured.MIN_CAPTURED_CHUNK_STEPS", 2)
    parts = parts_with(tiny, name, aligned)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.01,))
    loop = train(parts, replicas, eager())
    same(loop, train(parts, replicas, graph()), 0)
    same(loop, train(parts, replicas, vmap()), 1e-4)
    with simulated_device():
        on_device = parts_with(tiny, name, aligned, device=SIMULATED)
        for engine in (GRAPH, VMAP):
            captured = train(on_device, replicas, engine, plan=TrainingPlan(1, 5, 3, 0))
            learners = tree_map(cpu_values_of, captured.learners)
            same(loop, captured._replace(learners=learners), 1e-3)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_task_begins_with_a_new_state_where_the_yaml_says_reset(name, tiny):
    states = {}
    for at_task_end in ("keep", "reset"):
        settings = OmegaConf.load(CONF / "optimizer" / f"{name}.yaml")
        changed = {"at_task_end": at_task_end} | ({"momentum": 0.9} if name == "sgd" else {})
        optimizer = call_target("optimizer", OmegaConf.merge(settings, changed))
        parts = make_parts(tiny, method("finetune"), samples=10)._replace(optimizer=optimizer)
        outcome = train(parts, make_replicas(parts, lrs=(0.01,)))
        states[at_task_end] = tree_leaves(outcome.learners.optimizer_state)
    assert all(leaf.any() for leaf in states["keep"])
    assert not any(leaf.any() for leaf in states["reset"])


def test_what_joint_training_keeps_is_not_reset_within_the_mixture(tiny):
    parts = make_parts(tiny, method("joint"), samples=10)
    outcomes = [
        train(parts._replace(optimizer=sgd(0.9, 0.0, False, end)), make_replicas(parts))
        for end in ("keep", "reset")
    ]
    same(*outcomes, 0)
    assert torch.equal(outcomes[0].learners.params, outcomes[1].learners.params)
