import pytest
import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.errors import UserError
from gradalign_cli.methods.der import der
from gradalign_cli.methods.derpp import derpp
from gradalign_cli.training.replica import new_learner
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value
from tests.runs import make_parts, make_replicas, steps_of_task

PARAMS, BATCH = make_params(), make_examples(5)
LOGIT_BATCH, LABEL_BATCH = make_examples(3, seed=1), make_examples(4, seed=2)


def value_and_calls(method, *memory_batches):
    state = method.init(make_setup(PARAMS, 2))
    return objective_value(method, BATCH, memory_batches, PARAMS, state)


def test_the_cross_entropy_of_the_second_memory_batch_is_added():
    der_value, _ = value_and_calls(der(0.3), LOGIT_BATCH)
    value, calls = value_and_calls(derpp(0.3, 0.9), LOGIT_BATCH, LABEL_BATCH)
    label_loss = cross_entropy(network(PARAMS, 0, LABEL_BATCH).logits, LABEL_BATCH.target)
    torch.testing.assert_close(value, der_value + 0.9 * label_loss)
    assert calls == 3


def test_with_beta_zero_it_is_der():
    der_value, _ = value_and_calls(der(0.3), LOGIT_BATCH)
    value, _ = value_and_calls(derpp(0.3, 0.0), LOGIT_BATCH, LABEL_BATCH)
    torch.testing.assert_close(value, der_value)


def test_the_two_memory_batches_are_drawn_independently(tiny):
    parts = make_parts(tiny, derpp(0.5, 0.5), memory_batch=3)
    replica = make_replicas(parts)[0]
    steps = steps_of_task(parts, replica, new_learner(parts, replica), 0)
    draws = [draw.replay_uniform for _, draw, *_ in steps]
    assert all(not torch.equal(first, second) for first, second in draws)


@pytest.mark.parametrize(("alpha", "beta", "name"), [(-1.0, 0.5, "alpha"), (0.5, -1.0, "beta")])
def test_a_negative_weight_is_refused(alpha, beta, name):
    with pytest.raises(UserError, match=f"`method.{name}` must be non-negative, found -1"):
        derpp(alpha, beta)
