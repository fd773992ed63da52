import pytest
import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.combine import CombinedState, check_combination, combine
from gradalign_cli.methods.er import er
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.method import needed_task_ids
from gradalign_cli.step.step import make_step
from tests.methods.catalogue import METHODS, method
from tests.runs import compare, make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import learner_after


def goes_with_fine_tuning(name):
    try:
        check_combination(finetune(), method(name))
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in METHODS if goes_with_fine_tuning(name)),
        ("fdr", {"lookahead_lr": 0.1}),
    ],
)
def test_an_objective_under_fine_tuning_is_the_method_it_belongs_to(name, settings, tiny):
    parts = make_parts(tiny, method(name, **settings), samples=15)
    combined_parts = parts._replace(method=combine(finetune(), method(name, **settings)))
    combined, expected = (
        train(p, make_replicas(p, lrs=(0.01,))).learners for p in (combined_parts, parts)
    )
    torch.testing.assert_close(combined.params, expected.params)
    compare(combined.method_state.objective, expected.method_state, 1e-5)


def test_an_alignment_with_the_plain_loss_is_the_method_it_belongs_to(tiny):
    parts = make_parts(tiny, agem())
    combined_parts = parts._replace(method=combine(agem(), finetune()))
    combined, expected = (
        train(p, make_replicas(p)).learners.params for p in (combined_parts, parts)
    )
    assert torch.equal(combined, expected)


def test_the_aligned_gradient_is_that_of_the_objective(tiny):
    parts = make_parts(tiny, combine(agem(), er()), memory_batch=None)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    er_parts = parts._replace(method=er())
    for before, draw, view, after, trace in steps_of_task(parts, replica, learner, 1):
        er_step = make_step(er_parts, 1, eager().make_gradient_function, False)
        er_params = er_step(before._replace(method_state=()), draw, view)[0].params
        g = (before.params - er_params) / 0.1
        direction = (before.params - after.params) / 0.1
        if trace.violated == 0:
            torch.testing.assert_close(direction, g, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(direction @ direction, direction @ g, rtol=1e-2, atol=1e-5)


def test_vmap_over_replicas_equals_a_loop_for_a_combination_with_two_states(tiny):
    parts = make_parts(tiny, combine(method("gem"), method("derpp")), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.01,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


@pytest.mark.parametrize(
    ("names", "remaining"), [(("c_flat", "der"), "der"), (("gpm", "c_flat"), "gpm")]
)
def test_c_flat_goes_with_any_loss_and_any_projection(names, remaining, tiny):
    """With a radius near zero C-Flat changes no gradient, so the other method remains."""
    combined = combine(*(method(n, **{"radius": 1e-6} if n == "c_flat" else {}) for n in names))
    parts_of_both = [make_parts(tiny, m, samples=20) for m in (combined, method(remaining))]
    params, expected = (
        train(p, make_replicas(p, lrs=(0.01,))).learners.params for p in parts_of_both
    )
    torch.testing.assert_close(params, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("alignment", "objective", "sentence"),
    [
        ("agem", "agem", "`objective` must be a method that changes the loss"),
        ("agem", "independent", "`objective` must be a method that changes the loss"),
        ("er", "der", "`method` has a loss of its own"),
        ("mir", "der", "`method` has a loss of its own"),
        ("joint", "der", "`method` has a loss of its own"),
        ("c_flat", "mir", "both take gradients in a way of their own"),
    ],
)
def test_methods_that_cannot_be_combined_are_refused(alignment, objective, sentence):
    with pytest.raises(UserError, match=sentence):
        check_combination(method(alignment), method(objective))
    with pytest.raises(UserError, match=sentence):
        combine(method(alignment), method(objective))


@pytest.mark.parametrize("names", [("mer", "finetune"), ("finetune", "mer")])
def test_a_warning_of_either_part_about_the_step_size_is_one_of_the_whole(names):
    alignment, objective = map(method, names)
    if names[0] == "mer":  # which cannot be combined, as it has memory batches
        alignment = finetune()._replace(step_size_warning=alignment.step_size_warning)
    combined = combine(alignment, objective)
    assert "gamma" in combined.step_size_warning(0.2)
    assert combined.step_size_warning(0.1) == ""


@pytest.mark.parametrize("field", ["next_task_params", "test_params"])
def test_an_objective_that_chooses_parameters_in_either_way_is_refused(field):
    objective = er()._replace(**{field: lambda state, params, *_: params})
    with pytest.raises(UserError, match="`objective` must be a method that changes the loss"):
        check_combination(agem(), objective)


def test_a_combination_reports_what_both_report_of_their_own_state():
    alignment, objective = (
        agem()._replace(report=lambda state: {"unsolved": state}),
        er()._replace(report=lambda state: {"ratio": state}),
    )
    report = combine(alignment, objective).report(CombinedState(torch.tensor(3), torch.tensor(0.5)))
    assert report == {"unsolved": 3, "ratio": 0.5}


def test_a_combination_begins_a_task_with_what_both_make_of_state_and_parameters():
    alignment, objective = (
        agem()._replace(begin_task=lambda state, params, probe: (1, params + 1)),
        er()._replace(begin_task=lambda state, params, probe: (2, params * 3)),
    )
    combined = combine(alignment, objective)
    state, params = combined.begin_task(CombinedState(0, 0), torch.tensor(1.0), None)
    assert (state, float(params)) == (CombinedState(1, 2), 6.0)
    assert needed_task_ids(combined) == needed_task_ids(objective) == "at ends"
    assert needed_task_ids(combine(agem(), er())) == "no"
