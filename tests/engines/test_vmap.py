"""All replicas in one batched step are the replicas one by one.

That this holds for every method is in tests/methods/test_contract.py.
"""

import pytest
import torch

from gradalign_cli.engines.vmap import vmap
from gradalign_cli.numerics.trees import tree_index
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method, numbers
from tests.runs import compare, make_parts, make_replicas, noisy, same, train

# what an argument needs to have an effect
NEEDS = {
    ("cuber", "increase"): {"thresholds": [0.2]},
    ("cuber", "trust"): {"step": 0.1, "thresholds": [0.6]},
    ("cuber", "correlation"): {"trust": 0.0},
    ("ewc", "decay"): {"online": True, "strength": 1.0},
    ("ewc_pp", "decay"): {"interval": 1},
    ("ewc_pp", "strength"): {"interval": 1},
    ("fs_dgpm", "rate"): {"ascent": 1.0, "temperature": 1.0},
    ("fs_dgpm", "increase"): {"thresholds": [0.2]},
    ("gdumb", "least_step"): {"step": 1.0},
    ("gem", "eps"): {"margin": 0.0},
    ("mir", "step"): {"chosen": 2},
    ("gpm", "increase"): {"thresholds": [0.2]},
    ("rwalk", "damping"): {"interval": 1},
    ("sgp", "increase"): {"thresholds": [0.2]},
    ("trgp", "increase"): {"thresholds": [0.2]},
    ("trgp", "trust"): {"step": 0.1, "thresholds": [0.6]},
}
VALUES = {
    ("adam_nscl", "factor"): (2.0, 1e4),
    ("cuber", "trust"): (0.0, 1.0),
    ("cuber", "correlation"): (-1.0, 1.0),
    ("trgp", "trust"): (0.0, 1.0),
}


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("name", ["gem", "derpp"])
def test_no_buffer_disturbs_the_batching(name, buffer, tiny):
    parts = make_parts(tiny, method(name), samples=20, buffer=buffer_factory(buffer))
    replicas = make_replicas(parts, seeds=(0, 1, 2), lrs=(0.01,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name in METHODS for number in numbers(name)]
)
def test_replicas_may_differ_in_every_number_a_method_declares(name, number, tiny):
    changed = NEEDS.get((name, number), {})
    values = VALUES.get((name, number), (0.25, 0.75))
    methods = [method(name, **changed, **{number: value}) for value in values]
    parts = make_parts(tiny, methods[0])
    together = make_replicas(parts, seeds=(0, 0), lrs=(0.2, 0.2), methods=methods)
    batched = train(parts, together, vmap())
    same(train(parts, together), batched)
    for r, own in enumerate(methods):
        alone = train(parts._replace(method=own), make_replicas(parts, lrs=(0.2,), methods=[own]))
        compare(alone.learners.params[0], batched.learners.params[r], 1e-4)
    answering = [
        own.tested(state, params, 0, parts.model.layers)
        for own, params, state in zip(methods, *unstacked(batched.learners), strict=True)
    ]
    assert not torch.allclose(*answering, atol=1e-5)


def unstacked(learners):
    """The parameters and method states of the replicas."""
    count = range(len(learners.params))
    return [learners.params[r] for r in count], [tree_index(learners.method, r) for r in count]


@pytest.mark.parametrize("name", ["agem", "gem", "derpp", "mer"])
def test_each_replica_has_noise_of_its_own(name, tiny):
    parts = make_parts(tiny, method(name), samples=20, model=noisy)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    batched = train(parts, replicas, vmap())
    same(train(parts, replicas), batched)
    still = parts._replace(model=parts.model._replace(noisy=False))
    assert not torch.allclose(train(still, replicas).learners.params, batched.learners.params)


def test_replicas_may_differ_in_the_step_size(tiny):
    parts = make_parts(tiny, method("agem"))
    together = make_replicas(parts, seeds=(0, 0), lrs=(0.05, 0.2))
    batched = train(parts, together, vmap())
    for r, lr in enumerate((0.05, 0.2)):
        alone = train(parts, make_replicas(parts, lrs=(lr,)))
        compare(alone.learners.params[0], batched.learners.params[r], 1e-4)
