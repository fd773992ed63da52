import pytest
import torch
from torch import nn

from gradalign_cli.errors import UserError
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.icarl import icarl
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.progressive import progressive
from gradalign_cli.numerics.vectors import split_vector
from gradalign_cli.training.replica import new_learner
from tests.runs import make_parts, make_replicas
from tests.step.test_step import learner_after

IMAGES = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(1))


def make_columns(columns, outputs, widths=(5, 4)):
    """A progressive network for images of six pixels, and its initial parameters."""
    model = progressive(list(widths), "torch", columns, (1, 2, 3), outputs)
    return model, model.init(torch.Generator().manual_seed(0))


def column_slices(columns, outputs):
    """The part of the flat vector that belongs to each column."""
    sizes = [len(make_columns(count, outputs // columns * count)[1]) for count in range(1, columns)]
    stops = [*sizes, len(make_columns(columns, outputs)[1])]
    return [slice(*ends) for ends in zip([0, *sizes], stops, strict=True)]


def test_a_single_column_is_an_mlp():
    model, params = make_columns(1, 3)
    plain = mlp([5, 4], "torch", True, (1, 2, 3), 3)
    assert model.layers == plain.layers
    assert torch.equal(params, plain.init(torch.Generator().manual_seed(0)))
    output, expected = (m.apply(params, params[:0], IMAGES, True) for m in (model, plain))
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.features, expected.features)


def test_the_layers_of_a_second_column_add_what_adapters_make_of_the_first():
    """h = relu(W h_before + b + U relu(V (scale * h_before of column 1) + c)), as in eq. 2."""
    model, params = make_columns(2, 4)
    shapes = [(5, 6), (5,), (4, 5), (4,), (2, 4), (2,)]
    shapes += [(5, 6), (5,)]
    shapes += [(1,), (5, 5), (5,), (4, 5), (4, 5), (4,)]
    shapes += [(1,), (4, 4), (4,), (2, 4), (2, 4), (2,)]
    W1, b1, W2, b2, W3, b3, *second = split_vector(params, shapes)
    X1, c1, s2, V2, d2, U2, X2, c2, s3, V3, d3, U3, X3, c3 = second
    x, relu = IMAGES.flatten(1), torch.relu
    h1 = relu(x @ W1.T + b1)
    h2 = relu(h1 @ W2.T + b2)
    k1 = relu(x @ X1.T + c1)
    k2 = relu(k1 @ X2.T + c2 + relu(s2 * h1 @ V2.T + d2) @ U2.T)
    logits = [h2 @ W3.T + b3, k2 @ X3.T + c3 + relu(s3 * h2 @ V3.T + d3) @ U3.T]
    output = model.apply(params, params[:0], IMAGES, True)
    torch.testing.assert_close(output.logits, torch.cat(logits, 1))
    torch.testing.assert_close(output.features, torch.cat([h2, k2], 1))
    assert 0 < s2 < 0.1


def test_the_loss_of_a_task_has_no_gradient_in_the_columns_of_others():
    model, params = make_columns(3, 6)
    columns = column_slices(3, 6)
    for task in range(3):
        leaf = params.clone().requires_grad_()
        logits = model.apply(leaf, leaf[:0], IMAGES, True).logits[:, 2 * task : 2 * task + 2]
        loss = nn.functional.cross_entropy(logits, torch.arange(7) % 2)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert [bool(gradient[part].any()) for part in columns] == [t == task for t in range(3)]


def test_a_task_depends_on_all_earlier_columns_and_on_no_later_one():
    model, params = make_columns(3, 6)
    before = model.apply(params, params[:0], IMAGES, True).logits
    for number, part in enumerate(column_slices(3, 6)):
        changed = params.clone()
        changed[part] *= 1.5
        after = model.apply(changed, params[:0], IMAGES, True).logits
        moved = [not torch.equal(before[:, k : k + 2], after[:, k : k + 2]) for k in (0, 2, 4)]
        assert moved == [column >= number for column in range(3)]


def test_nothing_of_an_ended_task_is_forgotten(tiny):
    def three_columns(shape, outputs):
        return progressive([8], "torch", 3, shape, outputs)

    parts = make_parts(tiny, finetune(), model=three_columns)
    replica = make_replicas(parts)[0]
    x = (parts.benchmark.images[:10] / 255).view(-1, *parts.benchmark.image_shape)
    logits = []
    for ended in range(4):
        learner = learner_after(parts, replica, ended)
        logits.append(parts.model.apply(learner.params, learner.statistics, x, False).logits)
    for task in range(3):
        of_task = [each[:, 2 * task : 2 * task + 2] for each in logits]
        assert not torch.equal(of_task[task], of_task[task + 1])
        for later in of_task[task + 2 :]:
            assert torch.equal(of_task[task + 1], later)


def test_the_parts_of_the_flat_vector_add_up_to_it():
    model, params = make_columns(3, 6)
    assert sum(layer.size for layer in model.layers) == len(params)
    assert len(make_columns(2, 4)[0].layers) == 3 + 3 + 2 * 3


@pytest.mark.parametrize("columns", [0, 4])
def test_columns_must_divide_the_logits(columns):
    with pytest.raises(UserError, match=r"`model.columns` must be a divisor of the number of log"):
        progressive([5], "torch", columns, (1, 2, 3), 6)


def test_methods_that_replace_the_last_layer_refuse_it(tiny):
    def three_columns(shape, outputs):
        return progressive([8], "torch", 3, shape, outputs)

    parts = make_parts(tiny, icarl(), model=three_columns)
    with pytest.raises(UserError, match="`model` must be a network whose last layer gives all log"):
        new_learner(parts, make_replicas(parts)[0])
