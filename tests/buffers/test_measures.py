import torch
from torch.nn.functional import cosine_similarity

from gradalign_cli.buffers.measures import FEW, cosines, losses
from tests.methods.small import gradient_on, network, one, some, some_params


def test_cosines_are_those_of_the_gradients_of_single_examples():
    arrived, stored, params = some(2 * FEW + 3, 0), some(4, 1), some_params()
    found, _ = cosines(network, params, torch.zeros(1), arrived, stored)
    own, theirs = (
        torch.stack([gradient_on(one(part, n), params) for n in range(len(part.target))])
        for part in (arrived, stored)
    )
    torch.testing.assert_close(found, cosine_similarity(own[:, None], theirs, dim=-1))


def test_losses_are_those_of_single_examples():
    arrived, stored, params = some(5, 0), some(3, 1), some_params()
    found = torch.cat(losses(network, params, torch.zeros(1), arrived, stored))
    expected = []
    for part in (arrived, stored):
        logits = network(params, 0, part).logits
        expected.append(logits.logsumexp(1) - logits.gather(1, part.target[:, None])[:, 0])
    torch.testing.assert_close(found, torch.cat(expected))


def test_what_only_fills_a_place_has_no_loss_and_no_direction_even_if_its_label_is_hidden():
    visible = torch.ones(3, 4, dtype=torch.bool)
    stored = some(3, 1, weight=[1, 0, 1], visible=visible)
    visible[1, stored.target[1]] = False
    arrived = some(2, 0, visible=torch.ones(2, 4, dtype=torch.bool))
    given = network, some_params(), torch.zeros(1), arrived, stored
    for found in (losses(*given)[1], cosines(*given)[0].T):
        assert torch.isfinite(found).all()
        assert not found[1].any()
        assert found[0].any()
