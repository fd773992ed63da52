"""What is aligned: the gradient that the optimizer gets, or the update that it gives."""

import pytest
import torch
from omegaconf import open_dict

from gradalign_cli.composition.alignment import read_aligned_vector
from gradalign_cli.contract.gradients import random_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.adam_nscl import align_adam_step
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.method import can_align_updates
from gradalign_cli.methods.subspace import map_layer_matrices
from gradalign_cli.optimizers.adam import adam
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.training.replica import new_learner
from tests.composition.test_configs import compose_config, prepared
from tests.methods.catalogue import METHODS, method
from tests.methods.test_contract import cast_floats
from tests.runs import Traces, make_parts, make_replicas, same, train
from tests.step.test_step import learner_after

ADAM = adam(0.9, 0.999, 1e-8, 0.0, "keep")
PROJECTIONS = {
    *("agem", "agem_layerwise", "agem_r", "dfgp", "eps_soft_gem", "gpcns", "gpm"),
    *("ogd", "ogd_plus", "owm", "pca_ogd", "s_gem", "sgp"),
}


def with_margin_0(name):
    """A method; GEM without its margin."""
    return method(name, **({"margin": 0.0, "eps": 1e-9} if name == "gem" else {}))


def broken_count(parts, replicas):
    """In how many steps of a run the applied change hurt a reference, and how many were looked
    at."""
    traces = Traces()
    train(parts, replicas, watchers=[traces])
    broken = torch.cat([trace.applied_update_violates for _, trace in traces.traces])
    return int(broken.nansum()), int((~broken.isnan()).sum())


@pytest.mark.parametrize("name", ["agem", "s_gem", "gem"])
def test_adam_undoes_a_projection_of_gradients_and_not_one_of_updates(name, tiny):
    """arXiv 2604.22407 is on the former; Adam-NSCL does the latter in the null space of inputs."""
    parts = make_parts(tiny, with_margin_0(name), kind="permuted", memory_batch=None)
    parts = parts._replace(optimizer=ADAM)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.01,))
    broken, measured = broken_count(parts, replicas)
    assert 3 < broken < measured
    assert broken_count(parts._replace(aligned_vector="update"), replicas)[0] == 0


@pytest.mark.parametrize("name", ["agem", "gpm"])
def test_with_plain_sgd_an_update_is_the_gradient(name, tiny):
    parts = make_parts(tiny, method(name))
    replicas = make_replicas(parts)
    same(train(parts, replicas), train(parts._replace(aligned_vector="update"), replicas), 0)


def test_momentum_remembers_gradients_as_they_were(tiny):
    parts = make_parts(tiny, method("agem"), kind="permuted")
    parts = parts._replace(optimizer=sgd(0.9, 0.0), aligned_vector="update")
    (replica,) = make_replicas(parts)
    plain = parts._replace(method=method("finetune"))
    learner = learner_after(parts, replica, 2)
    assert learner.optimizer_state[0].norm() > 0
    first_task = learner_after(parts, replica, 1).optimizer_state[0]
    torch.testing.assert_close(first_task, learner_after(plain, replica, 1).optimizer_state[0])


def test_the_methods_whose_rule_is_defined_for_updates():
    flagged = {name for name in METHODS if method(name).align_accepts_updates}
    assert flagged == PROJECTIONS
    assert method("gem", margin=0.0).align_accepts_updates
    assert not method("gem", margin=0.5).align_accepts_updates
    assert can_align_updates(combine(method("agem"), method("der")))
    assert can_align_updates(combine(method("finetune"), method("der")))
    assert not can_align_updates(combine(method("mega2"), method("der")))


@pytest.mark.parametrize("name", [*sorted(PROJECTIONS), "gem"])
def test_of_references_only_the_directions_matter_to_a_method_that_aligns_updates(name, tiny):
    """An update is in other units than the gradients on memory, so no length may be compared."""
    parts = make_parts(tiny, with_margin_0(name), samples=20)
    state = learner_after(parts, make_replicas(parts, lrs=(0.01,))[0], 2).method_state
    state = cast_floats(state, torch.float64)
    for seed in range(5):
        gradients = random_gradients(parts.method, parts.model.layers, torch.float64, seed)
        direction, _ = parts.method.align(gradients, state)
        lengths = torch.rand(len(gradients.references), 1).double() + 0.1
        other = gradients._replace(
            g=5 * gradients.g,
            references=lengths * gradients.references,
            loss=9 * gradients.loss,
            reference_losses=7 * gradients.reference_losses,
        )
        longer, _ = parts.method.align(other, state)
        torch.testing.assert_close(longer, 5 * direction, rtol=1e-5, atol=1e-6)


def test_adam_nscl_is_adam_whose_updates_are_projected(tiny):
    """With the moments reset at the end of a task, and without BatchNorm."""
    parts = make_parts(tiny, method("adam_nscl", eigenvalue_factor=1e3), samples=20)
    adam_nscl = parts.method

    def align(gradients, state):
        projections = [lambda G, P=P: G @ P for P in state.projectors]
        return map_layer_matrices(gradients.g, gradients.layers, projections), state

    assert adam_nscl.align is align_adam_step
    projection = adam_nscl._replace(align=align, align_accepts_updates=True)
    other = parts._replace(
        method=projection,
        optimizer=adam(0.9, 0.999, 1e-8, 0.0, "reset"),
        aligned_vector="update",
    )
    left = train(parts, make_replicas(parts, lrs=(0.003,)))
    right = train(other, make_replicas(other, lrs=(0.003,), methods=[projection]))
    torch.testing.assert_close(left.learners.params, right.learners.params)
    learner = new_learner(parts, make_replicas(parts)[0])
    assert not torch.allclose(left.learners.params[0], learner.params, atol=1e-2)


def test_the_trace_is_of_what_is_aligned(tiny):
    parts = make_parts(tiny, method("finetune"))._replace(optimizer=ADAM, aligned_vector="update")
    traces = Traces()
    train(parts, make_replicas(parts), watchers=[traces])
    assert all((trace.norm_ratio == 1).all() for _, trace in traces.traces)


@pytest.mark.parametrize("overrides", [["method=mega2"], ["method=adam_nscl"], ["method=gem"]])
def test_a_rule_that_is_not_defined_for_updates_is_refused(overrides):
    config = compose_config(*overrides, "alignment.of=update")
    chosen = [method(config.method.name)]
    with pytest.raises(UserError, match=r"`alignment.of` must be gradient with"):
        read_aligned_vector(config, chosen)
    assert read_aligned_vector(
        compose_config("method=agem", "alignment.of=update"), [method("agem")]
    )
    assert read_aligned_vector(compose_config(*overrides), chosen) == "gradient"


def test_a_config_of_an_earlier_version_aligns_gradients_and_keeps_momentum():
    config = compose_config("method=agem", "optimizer.momentum=0.9")
    for group, setting in (
        ("alignment", "of"),
        ("optimizer", "nesterov"),
        ("optimizer", "at_task_end"),
    ):
        with open_dict(config):
            del config[group][setting]
    parts, *_ = prepared(config)
    assert (parts.aligned_vector, parts.optimizer.at_task_end) == ("gradient", "keep")
    assert parts.augmentation is None


def test_ends_of_tasks_that_a_stream_does_not_tell_reset_nothing():
    config = compose_config(
        *("method=er", "stream=task_free", "benchmark.scenario=class"),
        "optimizer.at_task_end=reset",
    )
    with pytest.raises(UserError, match=r"`optimizer.at_task_end` must be keep where the `stream`"):
        prepared(config)
