import pytest
import torch

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.ogd import ogd, orthonormal_additions
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas, steps_of_task, train


def test_added_rows_are_orthonormal_and_complete_the_span():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 3, generator=generator, dtype=torch.float64))[0].T
    vectors = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    vectors[3] = vectors[0] - 2 * vectors[1]  # adds nothing
    additions = orthonormal_additions(vectors, basis)
    extended_basis = torch.cat([basis, additions])
    assert len(additions) == 3
    gram = extended_basis @ extended_basis.T
    torch.testing.assert_close(gram, torch.eye(6).double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(vectors @ extended_basis.T @ extended_basis, vectors)
    assert len(orthonormal_additions(basis[:2], extended_basis)) == 0


@pytest.mark.parametrize("answer", ["label", "average", "all"])
def test_the_direction_does_not_change_old_logits_to_first_order(answer, tiny):
    parts = make_parts(tiny, ogd(10, answer))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[0]
    probe = make_probe(parts, learner, replica.stream.view, rows, 0)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    g = torch.randn(len(learner.params), generator=torch.Generator().manual_seed(0))
    direction, _ = parts.method.align(make_gradients(g, g[None]), state)
    assert 0.1 < direction.norm() / g.norm() < 1
    for row in rows[:5]:
        params = learner.params.clone().requires_grad_()
        x = (parts.benchmark.images[row] / 255).view(1, *parts.benchmark.image_shape)
        logits = parts.model.apply(params, params[:0], x, False).logits[0, :2]
        answers = {
            "label": logits[parts.benchmark.labels[row]],
            "average": logits.mean(),
            "all": logits[1],
        }
        (gradient,) = torch.autograd.grad(answers[answer], params)
        assert abs(gradient @ direction) < 1e-4 * gradient.norm() * g.norm()
        assert abs(gradient @ g) > abs(gradient @ direction)


def test_before_the_first_task_has_ended_the_direction_is_the_gradient(tiny):
    parts = make_parts(tiny, ogd(5, "label"))
    replica = make_replicas(parts)[0]
    steps = steps_of_task(parts, replica, new_learner(parts, replica), 0)
    assert all(trace.norm_ratio == 1 for *_, trace in steps)


def test_the_basis_stays_orthonormal_over_tasks_and_has_room_for_all_of_them(tiny):
    parts = make_parts(tiny, ogd(4, "label"), kind="permuted")
    basis = train(parts, make_replicas(parts)).learners.method_state.basis[0]
    assert (basis.norm(dim=1) > 0).tolist() == [True] * 12
    torch.testing.assert_close(basis @ basis.T, torch.eye(12), atol=1e-4, rtol=0)


def test_wrong_values_are_refused():
    with pytest.raises(
        UserError, match=r"`method.differentiated_logits` must be one of label, average, all"
    ):
        ogd(5, "loss")
    with pytest.raises(UserError, match=r"`method.gradients_per_task` must be positive, found 0"):
        ogd(0, "label")
