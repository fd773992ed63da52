"""Batching over replicas gives what a loop over the replicas gives.

tests/methods/test_contract.py has the same test for every method.
"""

import pytest
import torch

from gradalign_cli.engines.vmap import vmap
from gradalign_cli.numerics.trees import tree_index
from tests.grids import rest_is_long
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method, settings_that_may_vary
from tests.runs import biases_apart, compare, make_parts, make_replicas, noisy, same, small, train

# (method, number): the settings without which this number has no effect
FREE = {"free_dimensions": 2, "least_eigenvalue": 0.0}  # of code_cl, in small layers
NEEDS = {
    ("code_cl", "coverage"): {"aperture": 0.1},
    ("code_cl", "overlap_threshold"): {"scales_lr": 0.1, **FREE},
    ("code_cl", "scales_lr"): {"overlap_threshold": 0.0, **FREE},
    ("cuber", "increase"): {"thresholds": [0.2]},
    ("cuber", "trust_threshold"): {"scales_lr": 0.1, "thresholds": [0.6]},
    ("cuber", "correlation_threshold"): {"trust_threshold": 0.0},
    ("dfgp", "increase"): {"thresholds": [0.2]},
    ("ewc", "decay"): {"online": True, "strength": 1.0},
    ("ewc_pp", "fisher_rate"): {"interval": 1},
    ("ewc_pp", "strength"): {"interval": 1},
    ("fs_dgpm", "importance_lr"): {"climb_lr": 1.0, "temperature": 1.0},
    ("fs_dgpm", "increase"): {"thresholds": [0.2]},
    ("gdumb", "least_lr"): {"lr": 1.0},
    ("gem", "eps"): {"margin": 0.0},
    ("lwf", "warm_up_lr"): {"warm_up_passes": 1},
    ("mir", "lookahead_lr"): {"replayed_examples": 2},
    ("gpcns", "increase"): {"thresholds": [0.2]},
    ("gpm", "increase"): {"thresholds": [0.2]},
    ("rwalk", "damping"): {"interval": 1},
    ("sgp", "increase"): {"thresholds": [0.2]},
    ("trgp", "increase"): {"thresholds": [0.2]},
    ("trgp", "trust_threshold"): {"scales_lr": 0.1, "thresholds": [0.6]},
}
# the values of a number whose domain does not have the usual two
VALUES = {
    ("adam_nscl", "eigenvalue_factor"): (2.0, 1e4),
    ("code_cl", "overlap_threshold"): (0.0, 10.0),
    ("cuber", "trust_threshold"): (0.0, 1.0),
    ("cuber", "correlation_threshold"): (-1.0, 1.0),
    ("trgp", "trust_threshold"): (0.0, 1.0),
}
# the network without which this number has no effect
MODELS = {("adam_nscl", "strength"): biases_apart}


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("name", ["gem", "derpp"])
def test_every_buffer_works_batched(name, buffer, tiny):
    parts = make_parts(tiny, method(name), samples=20, buffer=buffer_factory(buffer))
    replicas = make_replicas(parts, seeds=(0, 1, 2), lrs=(0.01,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


@pytest.mark.parametrize(
    ("name", "number"),
    rest_is_long(
        [(name, number) for name in METHODS for number in settings_that_may_vary(name)],
        ["derpp", "gem", "gpm", "mer"],
    ),
)
def test_replicas_may_differ_in_every_number_a_method_declares(name, number, tiny):
    settings = NEEDS.get((name, number), {})
    values = VALUES.get((name, number), (0.25, 0.75))
    methods = [method(name, **settings, **{number: value}) for value in values]
    parts = make_parts(tiny, methods[0], model=MODELS.get((name, number), small))
    replicas = make_replicas(parts, seeds=(0, 0), lrs=(0.2, 0.2), methods=methods)
    batched = train(parts, replicas, vmap())
    same(train(parts, replicas), batched)
    for r, replica in enumerate(replicas):
        alone = train(parts._replace(method=replica.method), [replica])
        compare(alone.learners.params[0], batched.learners.params[r], 1e-4)
    learners = [tree_index(batched.learners, r) for r in range(2)]
    test_params = [
        replica.method.test_params(learner.method_state, learner.params, 0, parts.model.layers)
        for replica, learner in zip(replicas, learners, strict=True)
    ]
    assert not torch.allclose(*test_params, atol=1e-5)


@pytest.mark.parametrize("name", ["agem", "gem", "derpp", "mer"])
def test_replicas_have_different_noise(name, tiny):
    parts = make_parts(tiny, method(name), samples=20, model=noisy)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    batched = train(parts, replicas, vmap())
    same(train(parts, replicas), batched)
    without_noise = train(parts._replace(model=parts.model._replace(needs_noise=False)), replicas)
    assert not torch.allclose(without_noise.learners.params, batched.learners.params)


def test_replicas_may_differ_in_the_step_size(tiny):
    parts = make_parts(tiny, method("agem"))
    batched = train(parts, make_replicas(parts, seeds=(0, 0), lrs=(0.05, 0.2)), vmap())
    for r, lr in enumerate((0.05, 0.2)):
        alone = train(parts, make_replicas(parts, lrs=(lr,)))
        compare(alone.learners.params[0], batched.learners.params[r], 1e-4)
