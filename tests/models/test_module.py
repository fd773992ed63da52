import pickle
import sys
import warnings

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from gradalign_cli.engines.choice import Workload, choose_engine
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.module import build_module
from gradalign_cli.models.module import module as module_model
from gradalign_cli.models.resnet import resnet18
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.vectors import autograd_gradient_and_value, split_vector
from gradalign_cli.training.memory_needs import layer_output_bytes
from gradalign_cli.training.plan import TrainingPlan
from tests.methods.catalogue import method
from tests.models.networks import (
    Everything,
    LooksAtNumbers,
    cifar_resnet18,
    everything,
    linear_layers,
)
from tests.runs import make_parts, make_replicas, same, train

SHAPE, SHORT = (1, 4, 4), TrainingPlan(1, 5, 1, 0)
KEYS = torch.arange(7)


def images(n=7, shape=SHAPE):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def model_of(build, outputs=3, shape=SHAPE, weights=None, **arguments):
    return module_model("build", arguments, weights, shape, outputs, build)


def drawn(model, seed=0):
    """The first parameters of a seed."""
    return model.init(torch.Generator().manual_seed(seed))


def named(model, vector, names="param_names", shapes="param_shapes"):
    """The parts of a flat vector, by name."""
    layout = model.apply.__self__.layout
    return dict(
        zip(getattr(layout, names), split_vector(vector, getattr(layout, shapes)), strict=True)
    )


def statistics_of(model, vector):
    return named(model, vector, "statistic_names", "statistic_shapes")


@pytest.mark.parametrize("momentum", [0.1, None])
def test_three_steps_are_those_of_pytorch_with_the_buffers_that_they_move(momentum):
    model = everything(SHAPE, 3, momentum=momentum, dropout=0.0)
    params, statistics, x = drawn(model), model.initial_statistics, images()
    reference = Everything(3, 1, momentum, 0.0)
    reference.load_state_dict(named(model, params) | statistics_of(model, statistics))
    optimizer = torch.optim.SGD([p for p in reference.parameters() if p.requires_grad], 0.1)
    target = torch.arange(7) % 3

    def loss(params, statistics):
        output = model.apply(params, statistics, x, True, KEYS)
        return cross_entropy(output.logits, target), output.statistics

    for _ in range(3):
        g, (_, statistics) = autograd_gradient_and_value(loss)(params, statistics)
        params = params - 0.1 * g
        optimizer.zero_grad()
        cross_entropy(reference(x), target).backward()
        optimizer.step()
    state = named(model, params) | statistics_of(model, statistics)
    assert state["norm.num_batches_tracked"] == 3
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(state[name], tensor.float(), rtol=1e-5, atol=1e-6)
    tested = model.apply(params, statistics, x, False)
    torch.testing.assert_close(tested.logits, reference.eval()(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(tested.statistics, statistics)


def test_a_resnet18_of_modules_has_the_logits_and_gradients_of_ours():
    ours = resnet18(64, True, (3, 32, 32), 10)
    theirs = model_of(lambda: cifar_resnet18(10), 10, (3, 32, 32))
    params, x = drawn(ours), images(4, (3, 32, 32))
    reference = cifar_resnet18(10)
    reference.load(params, ours.initial_statistics)
    vector = torch.cat(
        [dict(reference.named_parameters())[n].flatten() for n in named(theirs, drawn(theirs))]
    ).detach()

    def logits_and_gradient(model, params):
        def loss(params):
            output = model.apply(params, model.initial_statistics, x, True)
            return cross_entropy(output.logits, torch.arange(4)), output

        g, (_, output) = autograd_gradient_and_value(loss)(params)
        return output.logits, output.features, g

    a, b = logits_and_gradient(ours, params), logits_and_gradient(theirs, vector)
    torch.testing.assert_close(a[0], b[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(a[1], b[1], rtol=1e-5, atol=1e-5)
    reference.load(a[2], ours.initial_statistics)  # the gradient by names
    parts = dict(reference.named_parameters())
    for name, part in named(theirs, b[2]).items():
        assert (part - parts[name]).norm() <= 1e-5 * b[2].norm()


def test_a_layers_matrix_and_inputs_give_its_outputs():
    """For stride, dilation, groups, every padding, and a layer that is used twice."""
    model = everything(SHAPE, 3)
    params, x = drawn(model), images()
    layout = model.apply.__self__.layout
    reference = Everything(3, 1).eval()
    reference.load_state_dict(named(model, params) | statistics_of(model, model.initial_statistics))
    outputs = {name: [] for name in layout.matrix_module_names}
    for name in outputs:
        layer = reference.get_submodule(name)
        layer.register_forward_hook(lambda _, __, y, name=name: outputs[name].append(y))
    reference(x)
    inputs = model.layer_inputs(params, model.initial_statistics, x)
    assert layout.matrix_module_names == ["conv", "grouped", "twice", "head"]
    for name, rows in zip(layout.matrix_module_names, inputs, strict=True):
        layer = reference.get_submodule(name)
        products = (rows @ layer.weight.flatten(1).T).unflatten(0, (7, -1))
        groups = getattr(layer, "groups", 1)
        by_group = products.unflatten(1, (groups, -1)).unflatten(-1, (groups, -1))
        diagonal = torch.stack([by_group[:, g, :, g] for g in range(groups)], 1)
        result = diagonal.movedim(2, -1).flatten(1, 2) if name in ("conv", "grouped") else products
        if layer.bias is not None:
            result = result + (layer.bias[:, None] if name in ("conv", "grouped") else layer.bias)
        wanted = [y.flatten(2) if y.ndim == 4 else y[:, None] for y in outputs[name]]
        torch.testing.assert_close(
            result, torch.cat(wanted, 1).view(result.shape), rtol=1e-4, atol=1e-5
        )


def test_parameters_are_listed_once_frozen_ones_apart_and_the_head_last():
    def build():
        first, second = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        second.weight = first.weight  # which both layers train
        head = nn.Linear(16, 3)
        head.bias.requires_grad_(False)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.LayerNorm(16), head)

    model = model_of(build)
    assert list(named(model, drawn(model))) == [
        "1.weight",
        "1.bias",
        "4.weight",
        "4.bias",
        "5.weight",
    ]
    assert list(statistics_of(model, model.initial_statistics)) == ["5.bias"]
    assert [layer.matrix_rows for layer in model.layers] == [0, 0, 0, 0, 3]
    module = build()
    module.load_state_dict(
        named(model, drawn(model)) | statistics_of(model, model.initial_statistics), strict=False
    )
    logits = model.apply(drawn(model), model.initial_statistics, images(), True).logits
    torch.testing.assert_close(logits, module(images()))


def test_dropout_follows_the_keys_and_drops_its_share():
    model = model_of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Dropout(0.25)))
    assert model.needs_noise
    params, x = drawn(model), images().expand(7, 1, 4, 4)

    def logits(keys, training=True):
        return model.apply(params, model.initial_statistics, x, training, keys).logits

    assert torch.equal(logits(KEYS), logits(KEYS))
    assert not torch.equal(logits(KEYS), logits(KEYS + 100))
    whole = logits((), False)
    shares = torch.stack([logits(KEYS + 100 * i) == 0 for i in range(200)]).float().mean()
    assert abs(shares - 0.25) < 0.02  # 4,200 draws: the deviation is 0.007
    remaining = logits(KEYS)
    torch.testing.assert_close(remaining, torch.where(remaining == 0, 0, whole / 0.75))


def test_whole_channels_and_whole_paths_are_dropped_by_the_keys():
    def build(layer):
        return nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), layer, nn.Flatten(), nn.Linear(48, 3))

    for layer in (nn.Dropout2d(0.5), torchvision.ops.StochasticDepth(0.5, "row")):
        model = model_of(build, layer=layer)
        assert model.needs_noise
        results = [
            model.apply(drawn(model), model.initial_statistics, images(), True, KEYS + k).logits
            for k in (0, 0, 50)
        ]
        assert torch.equal(results[0], results[1])
        assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(("engine", "name"), [(graph, "gpm"), (streams, "derpp"), (vmap, "er")])
def test_every_engine_trains_a_module_as_eager_does(engine, name, tiny, monkeypatch):
    first = 100 if engine is streams else 2  # so that threads take the module's own steps
    monkeypatch.setattr("gradalign_cli.engines.recorded.MIN_CALLS_TO_RECORD", first)
    parts = make_parts(tiny, method(name), samples=15, tasks=2, model=everything)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    loop = train(parts, replicas, eager(), plan=SHORT)
    assert not torch.equal(loop.learners.statistics[0], parts.model.initial_statistics)
    same(loop, train(parts, replicas, engine(), plan=SHORT), tolerance=1e-3)


def test_a_module_of_linear_layers_is_an_mlp(tiny):
    """GEM batches the gradients of all tasks, as for ours."""

    def linear(shape, outputs):
        return module_model(
            "linear_layers", {"outputs": outputs}, None, shape, outputs, linear_layers
        )

    parts = make_parts(tiny, method("gem"), samples=15, model=linear)
    assert not parts.model.convolutional
    ours = mlp([5], "torch", True, parts.benchmark.image_shape, parts.benchmark.outputs)
    assert ours.layers == parts.model.layers
    with_ours = parts._replace(model=ours._replace(init=parts.model.init))
    same(train(parts, make_replicas(parts)), train(with_ours, make_replicas(with_ours)), 1e-6)


def test_what_a_step_cannot_be_recorded_with_is_said_and_auto_avoids_it(tiny):
    """With momentum=None BatchNorm reads its counter, which lies on the device."""

    def cumulative(shape, outputs):
        return everything(shape, outputs, momentum=None)

    parts = make_parts(tiny, method("er"), samples=15, model=cumulative)
    for name in ("graph", "vmap", "streams"):
        with pytest.raises(
            UserError, match="`engine` must be eager or auto for this `model`, as it"
        ):
            choose_engine(name, Workload(parts, 2, 10, 30, 5), CPU)
    assert choose_engine("eager", Workload(parts, 2, 10, 30, 5), CPU)[0].name == "eager"
    engine, _ = choose_engine("auto", Workload(parts, 1, 10**5, 10**5, 5), CPU)
    assert engine.name == "eager"
    train(parts, make_replicas(parts), engine, plan=SHORT)


def test_a_batch_of_one_is_normalised_by_running_statistics_where_it_has_no_variance():
    def build(**options):
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16, **options), nn.Linear(16, 3))

    model = model_of(build)
    one = model.apply(drawn(model), model.initial_statistics, images(1), True)
    tested = model.apply(drawn(model), model.initial_statistics, images(1), False)
    assert torch.equal(one.logits, tested.logits)
    assert torch.equal(one.statistics, model.initial_statistics)
    many = model.apply(drawn(model), model.initial_statistics, images(), True)
    assert not torch.equal(many.statistics, model.initial_statistics)
    model = model_of(build, track_running_stats=False)
    with pytest.raises(UserError, match="was given one example"):
        model.apply(drawn(model), model.initial_statistics, images(1), True)


class Draws(nn.Linear):
    def forward(self, x):
        h = super().forward(x.flatten(1))
        return h + torch.randn_like(h) if self.training else h


class ChangesImages(nn.Linear):
    def forward(self, x):
        return super().forward(x.sub_(0.5).flatten(1))


class Ends(nn.Linear):
    def forward(self, x):
        sys.exit(0)


def with_nan(pixels, outputs):
    module = nn.Sequential(nn.Flatten(), nn.Linear(pixels, outputs))
    nn.init.constant_(module[1].weight, torch.nan)
    return module


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)), x


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4)),
            r"must give 3 logits .* found \(8, 4\) .* layer `1`",
        ),
        (lambda: nn.Conv2d(3, 4, 1), "images of 1 x 4 x 4 .* layer `` takes 3 channels and got 1"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 3)),
            "images of 1 x 4 x 4 .* layer `1` says: mat1",
        ),
        (
            lambda: nn.Sequential(Draws(16, 3)),
            "no random numbers but those of dropout, found that its layer `0`",
        ),
        (lambda: ChangesImages(16, 3), "leaves its images as they are"),
        (lambda: Pair(16, 3), r"must give 3 logits for each image, .* found tuple"),
        (lambda: nn.LazyLinear(3), "whose parameters have shapes"),
        (lambda: nn.Flatten, "makes a torch.nn.Module, found 'type'"),
        (lambda: sys.exit(0), r"what build can be called with, .* by sys\.exit\(0\)"),
        (lambda: Ends(16, 3), r"found that its layer .* by sys\.exit\(0\)"),
        (lambda: with_nan(16, 3), "with finite first weights in `1.weight`, found 'NaN or inf"),
        (lambda: 1 / 0, "`model.arguments` must be what build can be called with"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False),
            "parameters to train",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(build, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        model_of(build)
    assert "\n" not in str(error.value)


def test_buffers_that_a_float_cannot_hold_are_refused():
    def build(value):
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        module.register_buffer("counter", torch.tensor(value))
        return module

    assert model_of(build, value=2**24).initial_statistics.tolist() == [2.0**24]
    for value in (2**24 + 1, 1j):
        with pytest.raises(UserError, match="found `counter` of"):
            model_of(build, value=value)


def test_first_weights_are_drawn_from_the_seed_alone():
    model, before = everything(SHAPE, 3), torch.get_rng_state()
    first = drawn(model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert torch.equal(drawn(everything(SHAPE, 3)), first)
    assert not torch.equal(drawn(model, 1), first)


def test_first_weights_that_one_seed_draws_without_bounds_are_refused():
    def build():
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        if torch.initial_seed() != 0:
            nn.init.constant_(module[1].bias, torch.inf)
        return module

    model = model_of(build)
    with pytest.raises(UserError, match=r"with finite first weights in `1\.bias`"):
        drawn(model)


def test_weights_of_a_file_are_the_first_ones_and_a_missing_head_is_drawn(tmp_path):
    source = Everything(3, 1)
    state = {name: tensor.clone() + 1 for name, tensor in source.state_dict().items()}
    save_file(state, tmp_path / "all.safetensors")
    torch.save({"state_dict": state}, tmp_path / "all.pt")
    for name in ("all.safetensors", "all.pt"):
        model = everything_from(tmp_path / name)
        parts = named(model, drawn(model)) | statistics_of(model, model.initial_statistics)
        for key, tensor in state.items():
            assert torch.equal(parts[key], tensor.float())
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    save_file(headless, tmp_path / "headless.safetensors")
    model = everything_from(tmp_path / "headless.safetensors")
    parts, others = named(model, drawn(model)), named(model, drawn(model, 1))
    assert torch.equal(parts["conv.weight"], others["conv.weight"])
    assert not torch.equal(parts["head.weight"], others["head.weight"])


def everything_from(path):
    settings = {"outputs": 3, "channels": 1}
    return module_model("Everything", settings, str(path), SHAPE, 3, Everything)


class Opens:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return open, ("was_run", "w")


def test_a_file_of_weights_that_does_not_fit_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = Everything(4, 1).state_dict()
    save_file(state, "other.safetensors")
    save_file({**Everything(3, 1).state_dict(), "more": torch.zeros(1)}, "more.safetensors")
    save_file({"head.bias": torch.full((3,), torch.nan)}, "nan.safetensors")
    save_file({"head.bias": torch.zeros(3)}, "little.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Opens(), 2))
    torch.save({"head.bias": Opens()}, "code2.pt")
    state = Everything(3, 1).state_dict()
    bias = state["head.bias"]
    with warnings.catch_warnings(action="ignore"):  # of quantized tensors, which are deprecated
        quantized = torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8)
        for kind, tensor in {
            "sparse": bias.to_sparse(),
            "meta": bias.to("meta"),
            "quantized": quantized,
            "complex": bias.to(torch.complex64),
            "whole": bias.long(),
            "huge": bias.double() + 1e300,
        }.items():
            torch.save(state | {"head.bias": tensor}, f"{kind}.pt")
    torch.save({}, "none.pt")
    torch.save({"state_dict": {}}, "none_inside.pt")
    save_file({}, "none.safetensors")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "empty.safetensors").touch()
    for name, sentence in {
        "sparse.pt": "of plain numbers in `head.bias`, found .*sparse_coo",
        "meta.pt": "of plain numbers in `head.bias`, found .*on meta",
        "quantized.pt": "of plain numbers in `head.bias`, found torch.qint8",
        "complex.pt": "of floats in `head.bias`, found torch.complex64",
        "whole.pt": "of floats in `head.bias`, found torch.int64",
        "huge.pt": "finite in `head.bias`",
        "none.pt": "`model.weights` must be a file of tensors with names, found 'none'",
        "none_inside.pt": "`model.weights` must be a file of tensors with names, found 'none'",
        "none.safetensors": "`model.weights` must be a file of tensors with names, found 'none'",
        "empty.pt": "`model.weights` must be a file of tensors with names, found 'empty.pt, which",
        "empty.safetensors": "must be a file of tensors with names, found 'empty.safetensors, whi",
        "": "`model.weights` must be the path of a file, found ''",
        "other.safetensors": r"`model.weights` must be of shape \(3,.*\) in `head\..*found \(4,",
        "more.safetensors": "must be of the network's tensors, found 'more'",
        "nan.safetensors": "finite in `head.bias`",
        "little.safetensors": "must be of all tensors but the last layer's, found \"no ",
        "text.safetensors": "`model.weights` must be a .safetensors file",
        "code.pt": "`model.weights` must be a .safetensors file or a checkpoint",
        "code2.pt": "`model.weights` must be a .safetensors file or a checkpoint",
        "nothing.pt": "cannot read nothing.pt",
        ".": "must be a regular file, found a folder",
    }.items():
        with pytest.raises(UserError, match=sentence):
            everything_from(name)
    assert not (tmp_path / "was_run").exists()


def test_building_a_module_unpickles_no_code(tmp_path):
    """Arguments are a config's, so a checkpoint that they name may be a stranger's."""
    torch.save(Opens(), tmp_path / "code.pt")

    def build(path):
        torch.load(path, weights_only=False)
        return nn.Linear(1, 1)

    with pytest.raises(UserError, match="must be what build can be called with"):
        build_module(build, "build", {"path": tmp_path / "code.pt"}, 0)


def test_a_network_that_looks_at_numbers_trains_one_step_after_the_other(tiny):
    def looking(shape, outputs):
        return module_model("it", {"outputs": outputs}, None, shape, outputs, LooksAtNumbers)

    parts = make_parts(tiny, method("er"), samples=15, model=looking)
    assert parts.model.obstacle("batched").startswith("it cannot be batched: ")
    assert parts.model.obstacle("recorded").startswith("it cannot be recorded: ")
    assert sum(layer_output_bytes(parts)) > 0
    train(parts, make_replicas(parts), plan=SHORT)


def test_features_are_the_inputs_of_the_last_layer():
    model = everything(SHAPE, 3)
    output = model.apply(drawn(model), model.initial_statistics, images(), False)
    head = named(model, drawn(model))
    products = output.features @ head["head.weight"].T + head["head.bias"]
    torch.testing.assert_close(products, output.logits)
