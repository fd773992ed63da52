import pytest
import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.cuber import joined_by
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.trees import pad_to_shape
from tests.methods.catalogue import method
from tests.methods.test_trgp import random_trust
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after

NONE = torch.tensor([False, False])


def joined(G, spaces, gradients, trust=0.5, correlation=0.5):
    inside = torch.stack(gradients) @ spaces
    return joined_by(G, spaces, inside, torch.tensor(trust), torch.tensor(correlation))


def test_an_old_task_is_joined_where_both_gradients_agree_within_its_space():
    spaces, _ = random_trust(d=6, ranks=(2, 2))
    source = torch.Generator().manual_seed(0)
    C, outside = (torch.randn(4, d, generator=source).double() for d in (2, 6))
    P = spaces[1] @ spaces[1].T
    G = C @ spaces[1, :, :2].T
    far = outside - outside @ P  # what an old gradient is elsewhere does not count
    nothing = torch.zeros(4, 6).double()
    assert joined(G, spaces, [nothing, 3 * G + far]).tolist() == [False, True]
    assert torch.equal(joined(G, spaces, [nothing, far - G]), NONE)
    assert torch.equal(joined(G, spaces, [nothing, nothing]), NONE)
    assert torch.equal(joined(0 * G, spaces, [nothing, G]), NONE)
    half = G + far * G.norm() / far.norm()  # its space holds sqrt(1 / 2) of it
    assert joined(half, spaces, [nothing, G], trust=0.70).any()
    assert torch.equal(joined(half, spaces, [nothing, G], trust=0.71), NONE)


def test_only_the_task_that_agrees_most_is_joined_and_only_above_the_cosine():
    spaces = torch.eye(3).double().expand(2, 3, 3)
    G = torch.tensor([[1.0, 0.0, 0.0]]).double()
    old = [torch.tensor([[3.0, 4.0, 0.0]]).double(), torch.tensor([[4.0, 0.0, 3.0]]).double()]
    assert joined(G, spaces, old).tolist() == [False, True]
    assert joined(G, spaces, old[::-1]).tolist() == [True, False]
    assert joined(G, spaces, old, correlation=0.79).any()
    assert torch.equal(joined(G, spaces, old, correlation=0.81), NONE)


def test_with_a_cosine_that_nothing_reaches_it_is_trgp(tiny):
    found, expected, other = (
        train(parts, make_replicas(parts))
        for parts in (
            make_parts(tiny, method(name, trust=0.3, thresholds=[0.8], **changed), samples=20)
            for name, changed in (
                ("cuber", {"correlation": 1.0}),
                ("trgp", {}),
                ("cuber", {"correlation": -1.0}),
            )
        )
    )
    assert torch.equal(found.learners.params, expected.learners.params)
    assert (found.accuracy == expected.accuracy).all()
    assert not torch.allclose(other.learners.params, expected.learners.params)


def test_a_joined_task_is_moved_and_all_the_others_inputs_are_left_alone(tiny):
    """Four examples of each task span four of the first layer's seventeen inputs."""
    made = method("cuber", trust=0.0, thresholds=[1.0], correlation=-1.0)
    parts = make_parts(tiny, made, kind="permuted", samples=4)
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 2)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 2)
    change = (after.params - start.params)[: 8 * 16 + 8]
    W = torch.cat([change[:128].view(8, 16), change[128:, None]], 1)
    spaces, without = start.method_state.trgp.spaces[0], start.method_state.without[0]
    touched = (W @ spaces[:2]).flatten(1).norm(dim=1)
    (number,) = (touched > 1e-3).nonzero()[:, 0].tolist()  # one of the two
    assert touched[1 - number] < 1e-6
    assert torch.equal(after.method_state.held[0], without[number])
    scaled = after.method_state.trgp.now[0].spaces
    assert not any(torch.equal(own, spaces[number]) for own in scaled)  # joined, and not scaled
    assert any(torch.equal(own, spaces[1 - number]) for own in scaled)


def test_without_a_task_the_basis_holds_what_the_others_need_and_no_more(tiny):
    parts = make_parts(tiny, method("cuber", thresholds=[1.0]), kind="permuted", samples=4)
    replica = make_replicas(parts)[0]
    after = learner_after(parts, replica, 2).method_state
    for spaces, without in zip(after.trgp.spaces, after.without, strict=True):
        for task in (0, 1):
            M, S = without[task], spaces[1 - task]
            torch.testing.assert_close(M @ M.T, S @ S.T, rtol=0, atol=1e-3)
        assert (without[2] == 0).all()  # of a task to come
    third = learner_after(parts, replica, 3).method_state
    for before, without in zip(after.trgp.bases, third.without, strict=True):
        assert torch.equal(without[2], pad_to_shape(before, without[2].shape))


def repeated(replica):
    """The same task three times."""
    stream, pixels = replica.stream, replica.stream.view.pixel_source
    view = stream.view._replace(pixels=pixels[:1].expand_as(pixels).clone())
    return replica._replace(stream=stream._replace(train=stream.train_rows[:1] * 3, view=view))


def old_loss(parts, replica, learner):
    """The loss on the first task, as it is tested."""
    params = parts.method.tested(learner.method_state, learner.params, 0, parts.model.layers)
    examples = load_examples(
        parts.benchmark, replica.stream.view, replica.stream.train_rows[0], torch.tensor([0])
    )
    logits = parts.model.apply(params, params[:0], examples.images, False).logits
    return float(cross_entropy(logits, examples))


def test_a_task_that_comes_again_is_joined_and_gains_where_trgp_cannot_move(tiny):
    gain = {}
    for name in ("cuber", "trgp"):
        parts = make_parts(tiny, method(name, thresholds=[1.0], step=0.0), kind="permuted")
        replica = repeated(make_replicas(parts)[0])
        start = learner_after(parts, replica, 1)
        *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1, batch=20)
        losses = (old_loss(parts, replica, learner) for learner in (start, after))
        gain[name] = next(losses) - next(losses)
    assert gain["cuber"] > 0.01
    assert abs(gain["trgp"]) < 1e-4


def test_a_task_decides_by_its_first_gradient_alone(tiny):
    made = method("cuber", trust=0.0, thresholds=[0.9], correlation=-1.0)
    parts = make_parts(tiny, made, kind="permuted")
    replica = make_replicas(parts)[0]
    steps = list(steps_of_task(parts, replica, learner_after(parts, replica, 2), 2))
    chosen = [after.method_state.held[0] for *_, after, _ in steps]
    assert all(torch.equal(held, chosen[0]) for held in chosen)
    assert not torch.equal(chosen[0], steps[0][0].method_state.held[0])


@pytest.mark.parametrize(("name", "value"), [("correlation", 1.5), ("trust", -0.1)])
def test_wrong_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be in"):
        method("cuber", **{name: value})
