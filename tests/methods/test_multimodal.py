import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.multimodal import multimodal, shuffled
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after

FIRST = 8 * 16 + 8  # entries of the first layer of `make_parts`


def test_with_one_task_it_is_fine_tuning(tiny):
    one, plain = (make_parts(tiny, made) for made in (multimodal(), finetune()))
    learners = []
    for parts in (one, plain):
        replica = make_replicas(parts)[0]
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, new_learner(parts, replica), 0)
        learners.append(
            parts.method.test_params(after.method_state, after.params, 0, parts.model.layers)
        )
    assert torch.equal(*learners)
    found, expected = (train(parts, make_replicas(parts)).learners for parts in (one, plain))
    assert not torch.allclose(found.params, expected.params)  # with three it is not


def test_a_task_that_has_ended_is_tested_through_the_layer_it_left(tiny):
    parts = make_parts(tiny, multimodal())
    replica = make_replicas(parts)[0]
    *_, (_, _, _, first, _) = steps_of_task(parts, replica, new_learner(parts, replica), 0)
    later = learner_after(parts, replica, 3)
    tested = parts.method.test_params(later.method_state, later.params, 0, parts.model.layers)
    assert torch.equal(tested[:FIRST], first.params[:FIRST])
    assert torch.equal(tested[FIRST:], later.params[FIRST:])  # what is shared went on
    assert not torch.equal(tested[FIRST:], first.params[FIRST:])


def test_a_task_starts_from_its_own_layer_and_the_last_tasks_rest(tiny):
    parts = make_parts(tiny, multimodal())
    replica = make_replicas(parts)[0]
    start = new_learner(parts, replica)
    *_, (_, _, _, before, _) = steps_of_task(parts, replica, start, 0)
    after = learner_after(parts, replica, 1)
    assert torch.equal(after.params[:FIRST], start.method_state.own[1])
    assert torch.equal(after.params[FIRST:], before.params[FIRST:])


def test_the_layers_are_drawn_alike_and_none_is_another(tiny):
    """Each has the weights of the first in another order, and its biases."""
    parts = make_parts(tiny, multimodal())
    replica = make_replicas(parts)[0]
    start = new_learner(parts, replica)
    own = start.method_state.own
    assert torch.equal(own[0], start.params[:FIRST])
    sorted_weights, sorted_biases = own[:, :128].sort(1).values, own[:, 128:].sort(1).values
    assert (sorted_weights == sorted_weights[0]).all()
    assert (sorted_biases == sorted_biases[0]).all()
    assert (own[0] - own[1]).count_nonzero() > 100
    assert (own[1] - own[2]).count_nonzero() > 100


def test_without_a_bias_all_weights_change_places():
    part = torch.arange(12.0)
    found = shuffled(part, Layer(12, 3, False), 1)
    assert torch.equal(found.sort().values, part)
    assert not torch.equal(found, part)


def test_it_is_no_loss_that_an_alignment_could_follow():
    with pytest.raises(UserError, match="`objective` must be a method that changes the loss"):
        combine(agem(), multimodal())
