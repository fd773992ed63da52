"""The contract of a model: pure functions of a flat vector, on images of 3 x 32 x 32."""

from collections.abc import Callable

import torch
from torch import Tensor

from gradalign_cli.contract.findings import Rule, UnaskedRuleError, expect
from gradalign_cli.contract.small_runs import BuildModel
from gradalign_cli.contract.trees import difference
from gradalign_cli.errors import UserError
from gradalign_cli.models.model import Model, Output
from gradalign_cli.numerics.generators import generator
from gradalign_cli.step.draws import KEYS

SHAPE, OUTPUTS, IMAGES = (3, 32, 32), 7, 3
CLOSE = 1e-3  # between batched and single passes, relative to 1 + a number


def model_rules(build: BuildModel) -> list[Rule]:
    """The rules of a model's contract;  build: (image shape, outputs) -> the model, new."""
    return [
        Rule("`init` gives a vector [P] by its generator alone", lambda: check_init(build), True),
        Rule("`layers` are the parts of that vector", lambda: check_layer_sizes(build), True),
        Rule(
            "`apply` gives logits [n, outputs] that are finite",
            lambda: check_output_form(build),
            True,
        ),
        Rule("the gradient is finite, and not 0", lambda: check_gradient(build)),
        Rule("`apply` changes nothing in place", lambda: check_inputs_unchanged(build)),
        Rule("in tests an image counts for itself alone", lambda: check_image_independence(build)),
        Rule("`layer_inputs` fit the matrices of the layers", lambda: check_layer_inputs(build)),
        Rule(
            "`factored_gradients` are those of single examples",
            lambda: check_factored_gradients(build),
        ),
        Rule("batched over parameters (engine vmap): the same", lambda: check_vmap(build)),
    ]


def images() -> Tensor:
    """Three images [3, 3, 32, 32]."""
    return torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(1))


def initial_params(model: Model) -> Tensor:
    """The parameters [P] of seed 0."""
    return model.init(generator(0, "network"))


def noise_keys(model: Model) -> Tensor | tuple[()]:
    """Keys of dropout, where the model asks for them."""
    source = torch.Generator().manual_seed(2)
    return torch.randint(KEYS, (IMAGES,), generator=source) if model.needs_noise else ()


def output_on_images(model: Model, params: Tensor, training: bool = True) -> Output:
    """The output for the three images."""
    return output_of_params_and_statistics(model, training)(params, model.initial_statistics)


def output_of_params_and_statistics(
    model: Model, training: bool = True
) -> Callable[[Tensor, Tensor], Output]:
    """The model as a function of parameters and statistics, on the three images."""
    batch, keys = images(), noise_keys(model) if training else ()
    return lambda params, statistics: model.apply(params, statistics, batch, training, keys)


def check_init(build: BuildModel) -> None:
    """Raise BrokenRuleError where the initial parameters are no vector or are drawn otherwise."""
    before = torch.get_rng_state()
    first, second = (initial_params(build(SHAPE, OUTPUTS)) for _ in range(2))
    is_vector = first.ndim == 1 and first.dtype == torch.float32
    expect(is_vector, f"`init` must give float32 [P], found {first.dtype} {list(first.shape)}")
    is_drawn = torch.equal(first, second) and torch.equal(before, torch.get_rng_state())
    expect(is_drawn, "`init` must draw from the generator that it is given, and from no other")


def check_layer_sizes(build: BuildModel) -> None:
    """Raise BrokenRuleError where the layers do not add up to the parameters."""
    model = build(SHAPE, OUTPUTS)
    total, size = sum(layer.size for layer in model.layers), len(initial_params(model))
    expect(total == size, f"`layers` have {total} entries in all, the parameters {size}")


def check_output_form(build: BuildModel) -> None:
    """Raise BrokenRuleError where an output has another form."""
    model = build(SHAPE, OUTPUTS)
    for training in (True, False):
        output = output_on_images(model, initial_params(model), training)
        expect(
            output.logits.shape == (IMAGES, OUTPUTS) and bool(output.logits.isfinite().all()),
            f"logits must be finite and [{IMAGES}, {OUTPUTS}], found {list(output.logits.shape)}",
        )
        expect(
            output.features.ndim == 2 and len(output.features) == IMAGES,
            f"features must be [{IMAGES}, F], found {list(output.features.shape)}",
        )
        change = difference(model.initial_statistics, output.statistics, "statistics", torch.inf)
        expect(not change, f"{change}: `apply` must return statistics [S] like those it is given")


def check_gradient(build: BuildModel) -> None:
    """Raise BrokenRuleError where no gradient reaches the parameters."""
    model = build(SHAPE, OUTPUTS)
    g = torch.func.grad(lambda params: output_on_images(model, params).logits.logsumexp(1).sum())(
        initial_params(model)
    )
    expect(bool(g.isfinite().all()), "the gradient has entries that are NaN or infinite")
    expect(bool((g != 0).any()), "the gradient is 0: is something detached?")


def check_inputs_unchanged(build: BuildModel) -> None:
    """Raise BrokenRuleError where a pass writes into parameters, statistics or images."""
    model = build(SHAPE, OUTPUTS)
    params, statistics, batch = initial_params(model), model.initial_statistics.clone(), images()
    copies = params.clone(), statistics.clone(), batch.clone()
    model.apply(params, statistics, batch, True, noise_keys(model))
    change = difference(copies, (params, statistics, batch), "the input", 0.0)
    expect(not change, f"{change}: running statistics are returned, not written in place")


def check_image_independence(build: BuildModel) -> None:
    """Raise BrokenRuleError where tests of an image depend on those beside it."""
    model = build(SHAPE, OUTPUTS)
    params, statistics = initial_params(model), model.initial_statistics
    together = model.apply(params, statistics, images(), False, ()).logits
    try:
        alone = model.apply(params, statistics, images()[:1], False, ()).logits
    except UserError as error:
        raise UnaskedRuleError("it refuses a single image") from error
    change = difference(together[:1], alone, "logits", CLOSE)
    expect(not change, f"{change} beside other images: use running statistics in tests")


def check_layer_inputs(build: BuildModel) -> None:
    """Raise BrokenRuleError where the inputs of a layer are not what its matrix multiplies."""
    model = build(SHAPE, OUTPUTS)
    if model.layer_inputs is None:
        raise UnaskedRuleError("it gives none, so GPM and its kin cannot be used with it")
    inputs = model.layer_inputs(initial_params(model), model.initial_statistics, images())
    layers = [layer for layer in model.layers if layer.matrix_rows]
    columns = [
        (layer.size - layer.matrix_rows * layer.has_bias) // layer.matrix_rows for layer in layers
    ]
    widths = [tensor.shape[-1] for tensor in inputs]
    expect(widths == columns, f"`layer_inputs` must have {columns} columns, found {widths}")


def check_factored_gradients(build: BuildModel) -> None:
    """Raise BrokenRuleError where the outer products are not the gradients that autograd finds."""
    model = build(SHAPE, OUTPUTS)
    if model.factored_gradients is None:
        raise UnaskedRuleError("it gives none, so GSS takes the gradient of each example whole")
    params = initial_params(model)
    logit_gradients = torch.randn(IMAGES, OUTPUTS, generator=torch.Generator().manual_seed(3))

    def weighted_logits(params: Tensor, number: int) -> Tensor:
        image = images()[number : number + 1]
        logits = model.apply(params, model.initial_statistics, image, False, ()).logits
        return logits[0] @ logit_gradients[number]

    expected = torch.stack(
        [torch.func.grad(weighted_logits)(params, number) for number in range(IMAGES)]
    )
    parts = []
    for factors, layer in zip(
        model.factored_gradients(params, images(), logit_gradients), model.layers, strict=True
    ):
        products = factors.output_gradients[:, :, None] * factors.inputs[:, None]
        columns = products.shape[2] - layer.has_bias
        parts += [products[..., :columns].flatten(1), products[..., columns:].flatten(1)]
    change = difference(expected, torch.cat(parts, 1), "gradients", CLOSE)
    expect(not change, f"{change} from what autograd finds")


def check_vmap(build: BuildModel) -> None:
    """Raise BrokenRuleError where two vectors of parameters at once are not one after the other."""
    model = build(SHAPE, OUTPUTS)
    params = torch.stack([model.init(generator(seed, "network")) for seed in (0, 1)])
    statistics = model.initial_statistics.expand(2, -1)
    batched = torch.func.vmap(output_of_params_and_statistics(model))(params, statistics).logits
    expected = torch.stack([output_on_images(model, vector).logits for vector in params])
    change = difference(expected, batched, "logits", CLOSE)
    expect(not change, f"{change} between batched and single passes")
