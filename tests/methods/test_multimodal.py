import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.multimodal import multimodal, shuffle_input_layer
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after

WEIGHTS, BIASES = 8 * 16, 8  # of the first layer of the network of `make_parts`
FIRST = WEIGHTS + BIASES


def learner_before_end(parts, replica):
    """The learner after the steps of the first task, before the task has ended."""
    *_, (_, _, _, learner, _) = steps_of_task(parts, replica, new_learner(parts, replica), 0)
    return learner


def test_with_one_task_it_is_fine_tuning(tiny):
    both_parts = [make_parts(tiny, method) for method in (multimodal(), finetune())]
    test_params = []
    for parts in both_parts:
        learner = learner_before_end(parts, make_replicas(parts)[0])
        test_params.append(
            parts.method.test_params(learner.method_state, learner.params, 0, parts.model.layers)
        )
    assert torch.equal(*test_params)
    # with three tasks it is not
    params, finetuned = (train(parts, make_replicas(parts)).learners.params for parts in both_parts)
    assert not torch.allclose(params, finetuned)


def test_an_ended_task_is_tested_with_its_own_first_layer_and_the_current_other_layers(tiny):
    parts = make_parts(tiny, multimodal())
    replica = make_replicas(parts)[0]
    first_task_params = learner_before_end(parts, replica).params
    learner = learner_after(parts, replica, 3)
    test_params = parts.method.test_params(
        learner.method_state, learner.params, 0, parts.model.layers
    )
    assert torch.equal(test_params[:FIRST], first_task_params[:FIRST])
    assert torch.equal(test_params[FIRST:], learner.params[FIRST:])
    assert not torch.equal(test_params[FIRST:], first_task_params[FIRST:])


def test_a_task_starts_with_its_own_first_layer_and_the_trained_other_layers(tiny):
    parts = make_parts(tiny, multimodal())
    replica = make_replicas(parts)[0]
    initial_layers = new_learner(parts, replica).method_state.input_layer_of_task
    learner = learner_after(parts, replica, 1)
    assert torch.equal(learner.params[:FIRST], initial_layers[1])
    trained = learner_before_end(parts, replica).params
    assert torch.equal(learner.params[FIRST:], trained[FIRST:])


def test_each_initial_layer_has_the_weights_and_the_biases_of_the_first_in_another_order(tiny):
    parts = make_parts(tiny, multimodal())
    learner = new_learner(parts, make_replicas(parts)[0])
    layers = learner.method_state.input_layer_of_task
    assert layers.shape == (3, FIRST)
    assert torch.equal(layers[0], learner.params[:FIRST])
    for part in layers.split([WEIGHTS, BIASES], 1):
        sorted_part = part.sort(1).values
        assert (sorted_part == sorted_part[0]).all()
    assert (layers[0] - layers[1]).count_nonzero() > 100
    assert (layers[1] - layers[2]).count_nonzero() > 100


def test_a_layer_without_a_bias_is_reordered_as_a_whole():
    initial_layer = torch.arange(12.0)
    drawn_layer = shuffle_input_layer(initial_layer, Layer(12, 3, False), 1)
    assert torch.equal(drawn_layer.sort().values, initial_layer)
    assert not torch.equal(drawn_layer, initial_layer)


def test_it_cannot_be_the_objective_of_an_alignment_method():
    with pytest.raises(UserError, match="`objective` must be a method that changes the loss"):
        combine(agem(), multimodal())
