import pytest
import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import LossInputs
from gradalign_cli.methods.scaled_weights import Scaling, scale_params, scale_weights
from gradalign_cli.methods.subspace import BasisSizeRule, columns_to_add, layer_matrices
from gradalign_cli.methods.trgp import (
    TRGPState,
    TrustRule,
    add_task_space,
    end_scaling,
    select_trusted_spaces,
    task_space_and_basis,
    trgp_gradient,
    trgp_test_params,
    trust_spaces,
)
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import pad_to_shape
from gradalign_cli.training.task_end import task_rows
from tests.methods.catalogue import method
from tests.methods.test_subspace import random_representation
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def random_basis(d=5, columns=5, seed=0):
    """Orthonormal columns [d, columns]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator).double())[0][:, :columns]


def random_scaling(d=5, columns=3, seed=0):
    """Orthonormal columns, with one of zeros behind them, and random scales."""
    generator = torch.Generator().manual_seed(seed)
    zeros = torch.zeros(d, 1).double()
    D = torch.randn(columns + 1, columns + 1, generator=generator).double()
    return Scaling(torch.cat([random_basis(d, columns, seed), zeros], 1), D)


def state_of(scaling, counts, scales_lr=0.1):
    """TRGP's state in its second task, for one layer."""
    return TRGPState(
        bases=(scaling.basis,),
        space_masks=(),
        ended_changes=(),
        current_changes=(scaling.change,),
        trust_counts=(counts,),
        ended_tasks=torch.tensor(1.0),
        scales_lr=torch.tensor(scales_lr).double(),
    )


def step_of_scales(loss, params, layers, state):
    """The gradient and the state that `trgp_gradient` returns for a loss of the parameters."""

    def take_gradient(inputs):
        leaf = inputs.params.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)[0], None

    inputs = LossInputs(None, params, params[:0], None, (), layers)
    (g, _), state_after = trgp_gradient(take_gradient, inputs, state)
    return g, state_after


def test_the_gradient_and_the_step_of_the_scales_are_those_of_the_loss_at_the_scaled_parameters():
    generator = torch.Generator().manual_seed(2)
    layers = (Layer(20, 4, False),)
    params, C = torch.randn(2, 20, generator=generator).double()
    M, D = random_scaling()
    counts = torch.randint(3, D.shape, generator=generator).double()

    def loss(at):
        return (at.sin() * C).sum()

    g, state_after = step_of_scales(loss, params, layers, state_of(Scaling(M, D), counts))
    leaf, D_leaf = params.clone().requires_grad_(), D.clone().requires_grad_()
    loss(scale_params(leaf, layers, [Scaling(M, D_leaf)])).backward()
    torch.testing.assert_close(g, leaf.grad)
    torch.testing.assert_close(state_after.current_changes[0], D - 0.1 * counts * D_leaf.grad)


def test_it_learns_as_if_each_trusted_space_had_scales_of_its_own():
    """Eq. 4 with S_k and Q_k [w, w] of two spaces, of which three columns are the same."""
    generator = torch.Generator().manual_seed(3)
    layers, M = (Layer(24, 4, False),), random_basis(6, 5)
    params, C = torch.randn(2, 24, generator=generator).double()
    masks = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0, 1.0]]).double()
    spaces = [M[:, mask.bool()] for mask in masks]
    scales = [torch.eye(S.shape[1]).double().requires_grad_() for S in spaces]

    def loss(at):
        return (at.sin() * C).sum()

    def scaled(W):
        parts = [W @ S @ (Q - torch.eye(len(Q))) @ S.T for S, Q in zip(spaces, scales, strict=True)]
        return W + sum(parts)

    state = trust_spaces(state_of(Scaling(M, torch.zeros(5, 5).double()), None), [masks])
    for _ in range(3):
        _, state = step_of_scales(loss, params, layers, state)
        gradients = torch.autograd.grad(loss(scaled(params.view(4, 6)).flatten()), scales)
        scales = [
            (Q - 0.1 * G).detach().requires_grad_() for Q, G in zip(scales, gradients, strict=True)
        ]
        expected = scaled(params.view(4, 6)).flatten()
        computed = scale_params(params, layers, [Scaling(M, state.current_changes[0])])
        torch.testing.assert_close(computed, expected)
    assert (expected - params).norm() > 0.01


def test_weights_are_scaled_inside_a_space_and_unchanged_outside():
    W = torch.randn(4, 5).double()
    M, D = random_scaling(columns=2)
    columns = M[:, :2]
    scaled = scale_weights(W, Scaling(M, D))
    torch.testing.assert_close(scaled @ columns, W @ columns @ (torch.eye(2).double() + D[:2, :2]))
    x = torch.randn(5).double()
    outside = x - columns @ (columns.T @ x)
    torch.testing.assert_close(scaled @ outside, W @ outside)


def test_the_spaces_that_hold_enough_of_the_gradient_are_trusted():
    M = random_basis(6, 6)
    masks = torch.eye(3).double().repeat_interleave(2, 1)  # two columns each
    G = torch.randn(4, 2).double() @ M[:, 2:4].T + 1e-3 * torch.randn(4, 6).double()
    selected = select_trusted_spaces(G, M, masks, TrustRule(2, 0.9))
    assert torch.equal(selected[0], masks[1])
    assert not selected[1].any()
    assert len(select_trusted_spaces(G, M, masks, TrustRule(5, 0.0))) == 3  # there are no more
    assert not select_trusted_spaces(G, M, 0 * masks, TrustRule(2, 0.0)).any()


def space_and_basis(*arguments):
    """The columns of the task's space, those of before first, and the basis."""
    space_mask, basis = task_space_and_basis(*arguments)
    return basis[:, space_mask.bool()], basis


def test_inputs_close_to_an_old_direction_have_that_direction_as_their_space():
    e1, e2 = torch.eye(3).double()[:, :1], torch.eye(3).double()[:, 1:2]
    u = 0.98 * e1 + (1 - 0.98**2) ** 0.5 * e2
    space, basis = space_and_basis(e1, u, 0.95, False)  # 0.98 ** 2 = 0.9604
    assert torch.equal(space, e1)
    assert torch.equal(basis, e1)
    space, basis = space_and_basis(e1, u, 0.97, False)
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
        (1.0, [0, 1, 3, 2], [3, 2]),
    ]:
        space, basis = space_and_basis(axes[:, :2], R, threshold, False)
        assert torch.equal(space.abs(), axes[:, space_axes])
        assert torch.equal(basis.abs(), axes[:, [0, 1, *new_axes]])


def test_a_space_is_inside_the_basis_and_holds_the_threshold_and_one_column_fewer_does_not():
    M = torch.zeros(10, 0).double()
    for task, threshold in enumerate((0.8, 0.9, 0.95, 0.99)):
        R = random_representation(seed=task)
        R = R[torch.randperm(10, generator=torch.Generator().manual_seed(task))]
        gpm_columns, _ = columns_to_add(M, R, threshold, False)
        space, basis = space_and_basis(M, R, threshold, False)
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double())
        torch.testing.assert_close(basis @ (basis.T @ M), M)
        torch.testing.assert_close(basis @ (basis.T @ gpm_columns), gpm_columns)
        energies = (space.T @ R).square().sum(1)
        needed = threshold * R.square().sum()
        assert energies.sum() >= needed * (1 - 1e-5)
        assert energies.sum() - energies.min() < needed
        M = torch.cat([basis, torch.zeros(10, 1).double()], 1)  # a column of zeros means nothing


@pytest.mark.parametrize("one_column_fewer", [False, True])
def test_the_space_of_the_first_task_is_its_first_singular_vectors(one_column_fewer):
    R, no_columns = random_representation(), torch.zeros(10, 0).double()
    space, basis = space_and_basis(no_columns, R, 0.9, one_column_fewer)
    U, singular_values, _ = torch.linalg.svd(R)
    energies = singular_values.square().cumsum(0)
    rank = int((energies < 0.9 * energies[-1]).sum()) + 1 - one_column_fewer
    torch.testing.assert_close(space @ space.T, U[:, :rank] @ U[:, :rank].T)
    assert torch.equal(basis, space)


def test_a_basis_of_the_whole_space_gets_no_new_column():
    axes = torch.eye(4)
    space_mask, basis = task_space_and_basis(axes, random_representation(4, 9).float(), 1.0, False)
    assert torch.equal(basis, axes)
    assert torch.equal(space_mask, torch.ones(4))


@pytest.mark.parametrize("name", ["trgp", "cuber"])
def test_the_space_of_a_task_stays_the_same_while_the_basis_grows(name, tiny):
    parts = make_parts(tiny, method(name, thresholds=[0.9]), kind="permuted")
    replica = make_replicas(parts)[0]
    spaces_before = []
    for ended in (1, 2, 3):
        state = learner_after(parts, replica, ended).method_state
        state = state.trgp if name == "cuber" else state
        for M, masks in zip(state.bases, state.space_masks, strict=True):
            assert M[:, masks[ended - 1].bool()].norm() > 0.9
            assert not masks[ended:].any()
        spaces = [M[:, mask.bool()] for M in state.bases[:1] for mask in state.space_masks[0]]
        for now, before in zip(spaces, spaces_before[: ended - 1], strict=False):
            assert torch.equal(now, before)
        spaces_before = spaces


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

    assert all(counts.any() for counts in after.method_state.trust_counts)
    torch.testing.assert_close(
        logits_of_task(after, 0), logits_of_task(start, 0), rtol=0, atol=1e-3
    )
    assert (logits_of_task(after, 1) - logits_of_task(after, 0)).abs().max() > 0.01


def test_a_task_is_tested_as_it_ended_also_when_the_bases_have_grown(tiny):
    """And the weights do not change within the old tasks' inputs, on which it depends."""
    settings = {"trust_threshold": 0.0, "thresholds": [0.9], "scales_lr": 0.05}
    parts = make_parts(tiny, method("trgp", **settings), kind="permuted")
    replica = make_replicas(parts)[0]
    second, third = (learner_after(parts, replica, ended) for ended in (2, 3))
    widths = [learner.method_state.bases[0].shape[1] for learner in (second, third)]
    assert widths[0] < widths[1]

    def weights_within_space(learner):
        params = trgp_test_params(learner.method_state, learner.params, 1, parts.model.layers)
        M, mask = second.method_state.bases[0], second.method_state.space_masks[0][1]
        return layer_matrices(params, parts.model.layers)[0] @ M[:, mask.bool()]

    untouched = layer_matrices(second.params, parts.model.layers)[0]
    M, mask = second.method_state.bases[0], second.method_state.space_masks[0][1]
    before = weights_within_space(second)
    torch.testing.assert_close(weights_within_space(third), before, rtol=0, atol=1e-4)
    assert (before - untouched @ M[:, mask.bool()]).norm() > 1e-3


def test_what_is_kept_is_as_wide_as_the_basis_also_where_this_was_padded():
    """The second task's inputs are inside the basis, to which another replica gave a column of
    zeros."""
    M, rule = random_basis(4, 2), BasisSizeRule([0.99], 0.0, "strict")
    padded, zeros = pad_to_shape(M, (4, 3)), torch.zeros(3, 3).double()
    masks = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    state = state_of(Scaling(padded, zeros), zeros)._replace(
        space_masks=(masks,), ended_changes=(zeros.expand(2, 3, 3),)
    )
    ended = end_scaling(add_task_space(state, [M @ torch.randn(2, 9).double()], rule, 1), 1)
    torch.testing.assert_close(ended.bases[0], M)
    assert torch.equal(ended.space_masks[0], torch.ones(2, 2).double())
    assert ended.ended_changes[0].shape == (2, 2, 2)
    assert ended.current_changes[0].shape == ended.trust_counts[0].shape == (2, 2)


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
        masks = select_trusted_spaces(
            G, state.bases[layer], state.space_masks[layer], TrustRule(2, 0.6)
        )
        assert masks.any()
        for before, *_, after, _ in steps:
            for each in (before, after):
                assert torch.equal(each.method_state.trust_counts[layer], masks.T @ masks)


@pytest.mark.parametrize(
    ("name", "value"), [("max_trusted_tasks", 0), ("trust_threshold", 1.5), ("scales_lr", -1.0)]
)
def test_wrong_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        method("trgp", **{name: value})
