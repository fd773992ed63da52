import pytest
import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.er import er
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.step.step import make_step
from tests.methods.catalogue import method
from tests.runs import compare, make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import learner_after


@pytest.mark.parametrize("name", ["er", "der", "ewc", "si"])
def test_an_objective_without_an_alignment_is_its_own_method(name, tiny):
    alone = make_parts(tiny, method(name))
    both = alone._replace(method=combine(finetune(), method(name)))
    found, expected = (
        train(parts, make_replicas(parts, lrs=(0.01,))).learners for parts in (both, alone)
    )
    torch.testing.assert_close(found.params, expected.params)
    compare(found.method_state.objective, expected.method_state, 1e-5)


def test_an_alignment_with_the_plain_loss_is_its_own_method(tiny):
    alone = make_parts(tiny, agem())
    both = alone._replace(method=combine(agem(), finetune()))
    found, expected = (train(p, make_replicas(p)).learners.params for p in (both, alone))
    assert torch.equal(found, expected)


def test_the_gradient_that_is_aligned_is_that_of_the_objective(tiny):
    parts = make_parts(tiny, combine(agem(), er()), memory_batch=None)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    plain = parts._replace(method=er())
    for before, draw, view, after, trace in steps_of_task(parts, replica, learner, 1):
        step = make_step(plain, 1, eager().gradient, False)
        own = step(before._replace(method=()), draw, view)[0].params
        g = (before.params - own) / 0.1
        moved = (before.params - after.params) / 0.1
        if trace.violated == 0:
            torch.testing.assert_close(moved, g, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(moved @ moved, moved @ g, rtol=1e-2, atol=1e-5)


def test_vmap_is_a_loop_for_a_combination_with_two_states(tiny):
    parts = make_parts(tiny, combine(method("gem"), method("derpp")), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.01,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


@pytest.mark.parametrize(
    ("names", "other"), [(("c_flat", "der"), "der"), (("gpm", "c_flat"), "gpm")]
)
def test_flat_descent_goes_with_any_loss_and_under_any_projection(names, other, tiny):
    """Over a radius of almost nothing every gradient is flat."""
    both = combine(*(method(n, **{"radius": 1e-6} if n == "c_flat" else {}) for n in names))
    made = [make_parts(tiny, m, samples=20) for m in (both, method(other))]
    found, expected = (train(p, make_replicas(p, lrs=(0.01,))).learners.params for p in made)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_what_has_no_meaning_is_refused():
    with pytest.raises(UserError, match="`objective` must be a method that changes the loss"):
        combine(agem(), agem())
    with pytest.raises(UserError, match="`method` has a loss of its own"):
        combine(er(), method("der"))
    with pytest.raises(UserError, match="`method` has a loss of its own"):
        combine(method("mir"), method("der"))
    with pytest.raises(UserError, match="both take gradients in a way of their own"):
        combine(method("c_flat"), method("mir"))
