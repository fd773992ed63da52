import pytest
import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import LossInputs
from gradalign_cli.methods.scaled_weights import (
    Scaling,
    scale_params,
    scale_weights,
)
from gradalign_cli.methods.subspace import columns_to_add, layer_matrices
from gradalign_cli.methods.trgp import (
    TRGPState,
    select_trusted_spaces,
    task_space_and_basis,
    trgp_gradient,
)
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Layer
from gradalign_cli.training.task_end import task_rows
from tests.methods.catalogue import method
from tests.methods.test_subspace import random_representation
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def random_scaling(d=5, ranks=(2, 3), seed=0):
    """Spaces of orthonormal columns, padded with zeros, and random scales."""
    generator = torch.Generator().manual_seed(seed)
    spaces = torch.zeros(len(ranks), d, d).double()
    for k, rank in enumerate(ranks):
        columns = torch.linalg.qr(torch.randn(d, d, generator=generator).double())[0]
        spaces[k, :, :rank] = columns[:, :rank]
    return Scaling(spaces, torch.randn(len(ranks), d, d, generator=generator).double())


def test_the_gradient_and_the_step_of_the_scales_are_those_of_the_loss_at_the_scaled_parameters():
    generator = torch.Generator().manual_seed(2)
    layers = (Layer(20, 4, False),)
    params, C = torch.randn(2, 20, generator=generator).double()
    S, Q = random_scaling()
    number = torch.tensor
    state = TRGPState(
        bases=(torch.zeros(5, 0).double(),),
        spaces=(S,),
        ended_scalings=(),
        current_scalings=(Scaling(S, Q),),
        ended_tasks=number(1.0),
        scales_lr=number(0.1).double(),
    )

    def loss(at):
        return (at.sin() * C).sum()

    def take_gradient(inputs):
        leaf = inputs.params.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)[0], None

    inputs = LossInputs(None, params, params[:0], None, (), layers)
    (g, _), state_after = trgp_gradient(take_gradient, inputs, state)
    leaf, Q_leaf = params.clone().requires_grad_(), Q.clone().requires_grad_()
    loss(scale_params(leaf, layers, [Scaling(S, Q_leaf)])).backward()
    torch.testing.assert_close(g, leaf.grad)
    torch.testing.assert_close(state_after.current_scalings[0].scales, Q - 0.1 * Q_leaf.grad)


def test_scales_of_one_or_spaces_of_zeros_change_nothing():
    W = torch.randn(4, 5).double()
    S, Q = random_scaling()
    ones = torch.eye(5).double().expand_as(Q)
    torch.testing.assert_close(scale_weights(W, Scaling(S, ones)), W)
    torch.testing.assert_close(scale_weights(W, Scaling(0 * S, Q)), W)


def test_weights_are_scaled_inside_a_space_and_unchanged_outside():
    W = torch.randn(4, 5).double()
    S, Q = random_scaling(ranks=(2,))
    columns = S[0, :, :2]
    scaled = scale_weights(W, Scaling(S, Q))
    torch.testing.assert_close(scaled @ columns, W @ columns @ Q[0, :2, :2])
    x = torch.randn(5).double()
    outside = x - columns @ (columns.T @ x)
    torch.testing.assert_close(scaled @ outside, W @ outside)


def test_the_spaces_that_hold_enough_of_the_gradient_are_trusted():
    S, _ = random_scaling(d=6, ranks=(2, 2, 2))
    G = torch.randn(4, 2).double() @ S[1, :, :2].T + 1e-3 * torch.randn(4, 6).double()
    selected = select_trusted_spaces(G, S, 2, 0.9)
    assert torch.equal(selected[0], S[1])
    assert (selected[1] == 0).all()
    assert (select_trusted_spaces(G, S, 5, 0.0)[3:] == 0).all()  # there are only three spaces
    assert (select_trusted_spaces(G, 0 * S, 2, 0.0) == 0).all()


def test_inputs_close_to_an_old_direction_have_that_direction_as_their_space():
    e1, e2 = torch.eye(3).double()[:, :1], torch.eye(3).double()[:, 1:2]
    u = 0.98 * e1 + (1 - 0.98**2) ** 0.5 * e2
    space, basis = task_space_and_basis(e1, u, 0.95, False)  # 0.98 ** 2 = 0.9604
    assert torch.equal(space, e1)
    assert torch.equal(basis, e1)
    space, basis = task_space_and_basis(e1, u, 0.97, False)
    torch.testing.assert_close(space, torch.cat([e1, e2], 1) * torch.sign(space.sum(0)))
    assert torch.equal(basis, space)


def test_the_space_has_the_candidates_of_most_energy_whether_old_or_new():
    """Along the four axes the inputs have the energies 1, 5, 2 and 4; the first two are old."""
    axes = torch.eye(4).double()
    R = torch.diag(torch.tensor([1.0, 5.0, 2.0, 4.0]).double().sqrt())
    for threshold, space_axes, new_axes in [
        (5 / 12, [1], []),
        (9 / 12, [1, 3], [3]),
        (11 / 12, [1, 3, 2], [3, 2]),
        (1.0, [1, 3, 2, 0], [3, 2]),
    ]:
        space, basis = task_space_and_basis(axes[:, :2], R, threshold, False)
        assert torch.equal(space.abs(), axes[:, space_axes])
        assert torch.equal(basis.abs(), axes[:, [0, 1, *new_axes]])


def test_a_space_is_inside_the_basis_and_holds_the_threshold_and_one_column_fewer_does_not():
    M = torch.zeros(10, 0).double()
    for task, threshold in enumerate((0.8, 0.9, 0.95, 0.99)):
        R = random_representation(seed=task)
        R = R[torch.randperm(10, generator=torch.Generator().manual_seed(task))]
        gpm_columns, _ = columns_to_add(M, R, threshold, False)
        space, basis = task_space_and_basis(M, R, threshold, False)
        torch.testing.assert_close(space.T @ space, torch.eye(space.shape[1]).double())
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double())
        torch.testing.assert_close(basis @ (basis.T @ space), space)
        torch.testing.assert_close(basis @ (basis.T @ M), M)
        torch.testing.assert_close(basis @ (basis.T @ gpm_columns), gpm_columns)
        energy = R.square().sum()
        assert (space.T @ R).square().sum() >= threshold * energy * (1 - 1e-5)
        assert (space[:, :-1].T @ R).square().sum() < threshold * energy
        M = torch.cat([basis, torch.zeros(10, 1).double()], 1)  # a column of zeros means nothing


@pytest.mark.parametrize("one_column_fewer", [False, True])
def test_the_space_of_the_first_task_is_its_first_singular_vectors(one_column_fewer):
    R, no_columns = random_representation(), torch.zeros(10, 0).double()
    space, basis = task_space_and_basis(no_columns, R, 0.9, one_column_fewer)
    U, singular_values, _ = torch.linalg.svd(R)
    energies = singular_values.square().cumsum(0)
    rank = int((energies < 0.9 * energies[-1]).sum()) + 1 - one_column_fewer
    torch.testing.assert_close(space @ space.T, U[:, :rank] @ U[:, :rank].T)
    assert torch.equal(basis, space)


def test_a_basis_of_the_whole_space_gets_no_new_column():
    axes = torch.eye(4)
    space, basis = task_space_and_basis(axes, random_representation(4, 9).float(), 1.0, False)
    assert torch.equal(basis, axes)
    assert sorted(space.argmax(0).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["trgp", "cuber"])
def test_after_every_task_its_space_is_inside_the_basis(name, tiny):
    parts = make_parts(tiny, method(name, thresholds=[0.9]), kind="permuted")
    replica = make_replicas(parts)[0]
    for ended in (1, 2, 3):
        state = learner_after(parts, replica, ended).method_state
        trgp_state = state.trgp if name == "cuber" else state
        for M, spaces in zip(trgp_state.bases, trgp_state.spaces, strict=True):
            S = spaces[ended - 1]
            assert S.norm() > 0.9
            torch.testing.assert_close(M @ (M.T @ S), S, rtol=0, atol=1e-5)


def test_if_no_task_is_trusted_it_is_gpm(tiny):
    methods = method("trgp", trust_threshold=1.0, thresholds=[0.8]), method("gpm", thresholds=[0.8])
    both_params = []
    for each_method in methods:
        parts = make_parts(tiny, each_method, samples=20)
        both_params.append(train(parts, make_replicas(parts)).learners.params)
    assert torch.equal(*both_params)


def test_where_old_tasks_hold_all_inputs_only_the_scales_learn_and_old_logits_stay(tiny):
    full_bases = method("trgp", trust_threshold=0.0, thresholds=[1.0], scales_lr=0.05)
    parts = make_parts(tiny, full_bases, kind="permuted")
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 1)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)

    def logits_of_task(learner, task):
        params = parts.method.test_params(
            learner.method_state, learner.params, task, parts.model.layers
        )
        rows = replica.stream.train_rows[0][:10]
        x = (parts.benchmark.images[rows] / 255).view(10, *parts.benchmark.image_shape)
        return parts.model.apply(params, params[:0], x, False).logits

    scalings = after.method_state.current_scalings
    assert all((scaling.spaces[0] != 0).any() for scaling in scalings)
    torch.testing.assert_close(
        logits_of_task(after, 0), logits_of_task(start, 0), rtol=0, atol=1e-3
    )
    assert (logits_of_task(after, 1) - logits_of_task(after, 0)).abs().max() > 0.01


def test_the_last_task_may_have_the_widest_space(tiny):
    """The stored scalings of all tasks are then as wide as that one."""
    parts = make_parts(tiny, method("trgp", thresholds=[0.5], increase=0.24), kind="permuted")
    state = train(parts, make_replicas(parts)).learners.method_state
    ranks = state.spaces[0][0].square().sum((1, 2)).round()
    assert ranks[2] > ranks[:2].max()
    ended, current = state.ended_scalings[0], state.current_scalings[0]
    assert ended.spaces.shape[2:] == current.spaces.shape[1:]


def gradient_before_task(parts, replica, learner, task, samples):
    """The gradient [r, d] of each layer, its bias a column, on `samples` examples of a task that
    has not begun."""
    rows = task_rows(replica, task)[:samples]
    examples = load_examples(parts.benchmark, replica.stream.view, rows, torch.tensor([task]))
    params = learner.params.clone().requires_grad_()
    logits = parts.model.apply(params, params[:0], examples.images, True).logits
    (g,) = torch.autograd.grad(cross_entropy(logits, examples), params)
    return layer_matrices(g, parts.model.layers)


def test_a_task_chooses_whom_it_trusts_before_its_first_step_and_keeps_to_it(tiny):
    parts = make_parts(tiny, method("trgp", trust_threshold=0.6, samples=7))
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 2)
    state = learner.method_state
    steps = list(steps_of_task(parts, replica, learner, 2))
    for layer, G in enumerate(gradient_before_task(parts, replica, learner, 2, 7)):
        expected = select_trusted_spaces(G, state.spaces[layer], 2, 0.6)
        assert expected.any()
        for before, *_, after, _ in steps:
            for each in (before, after):
                current = each.method_state.current_scalings[layer].spaces
                torch.testing.assert_close(current, expected)


@pytest.mark.parametrize(
    ("name", "value"), [("max_trusted_tasks", 0), ("trust_threshold", 1.5), ("scales_lr", -1.0)]
)
def test_wrong_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        method("trgp", **{name: value})
