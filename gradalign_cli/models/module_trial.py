"""What a torch.nn.Module does with images of a benchmark is found out by trying."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradalign_cli.errors import UserError, error_text, require
from gradalign_cli.models.model import StepExecution
from gradalign_cli.models.module_forward import ModuleFunction, first_input
from gradalign_cli.models.module_layout import is_linear_or_conv
from gradalign_cli.models.module_noise import KeyedDropout
from gradalign_cli.numerics.recording import record
from gradalign_cli.numerics.vectors import autograd_gradient_and_value, functional_gradient

EXAMPLES = 8  # BatchNorm of fewer at the end of a network magnifies rounding
TOLERANCE = 0.1  # of the length of a gradient, as a deep network magnifies rounding


class LayerCall(NamedTuple):
    """A submodule, its name, and what it was called with."""

    name: str
    module: nn.Module
    layer_input: Tensor


class Trial(NamedTuple):
    """call_order: the names of the linear layers and convolutions as they are called;  has_dropout:
    whether the module has dropout;  changes_buffers: whether training changes a buffer."""

    call_order: list[str]
    has_dropout: bool
    changes_buffers: bool


def trial_images(image_shape: tuple[int, int, int]) -> Tensor:
    """Images [EXAMPLES, channels, height, width] of noise."""
    return torch.rand(EXAMPLES, *image_shape, generator=torch.Generator().manual_seed(0))


def try_module(module: nn.Module, image_shape: tuple[int, int, int], outputs: int) -> Trial:
    """Two passes of a module, one of them in training, on images of `image_shape`
    (channels, height, width).

    Raises UserError, naming the layer, where it cannot take them, gives no logits [n, outputs],
    changes the images or draws random numbers that are not those of dropout.
    """
    called_layers: list[LayerCall] = []
    layers_using_global_rng: list[str] = []
    before, images = torch.get_rng_state(), trial_images(image_shape)

    def enter(name: str) -> Callable[..., None]:
        def hook(submodule: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            if args or kwargs:
                called_layers.append(LayerCall(name, submodule, first_input(args, kwargs)))

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            if not layers_using_global_rng and not torch.equal(torch.get_rng_state(), before):
                layers_using_global_rng.append(name)

        return hook

    hooks = []
    for name, submodule in module.named_modules():
        hooks.append(submodule.register_forward_pre_hook(enter(name), with_kwargs=True))
        hooks.append(submodule.register_forward_hook(leave(name)))
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    noise = KeyedDropout(torch.arange(EXAMPLES))
    try:
        with torch.no_grad(), noise:
            check_logits(module.train()(images), outputs, called_layers)
        check_repeatable_and_images_unchanged(layers_using_global_rng, images, image_shape)
        call_order = [name for name, submodule, _ in called_layers if is_linear_or_conv(submodule)]
        changed = any(not torch.equal(buffers[n], b) for n, b in module.named_buffers())
        with torch.no_grad():
            check_logits(module.eval()(images), outputs, called_layers)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # what the user's own module raises
        raise UserError(refusal_sentence(error, called_layers, image_shape)) from error
    finally:
        torch.set_rng_state(before)
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return Trial(call_order, noise.used > 0, changed)


def check_repeatable_and_images_unchanged(
    layers_using_global_rng: list[str], images: Tensor, image_shape: tuple[int, int, int]
) -> None:
    """Raise UserError where a module drew random numbers or changed its images.

    layers_using_global_rng: the first layer that drew from PyTorch's global generator, or none.
    """
    if layers_using_global_rng:
        raise UserError(
            f"`model.module` must draw no random numbers but those of dropout, found that its layer"
            f" `{layers_using_global_rng[0]}` does in training: an argument that turns this off "
            "may help"
        )
    require(
        torch.equal(images, trial_images(image_shape)),
        "model.module",
        "what leaves its images as they are",
        "one that changes them in place",
    )


def check_logits(logits: object, outputs: int, called_layers: list[LayerCall]) -> None:
    """Raise UserError unless a module gave logits [EXAMPLES, outputs]."""
    result = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if result == (EXAMPLES, outputs):
        return
    last = next(
        (name for name, layer, _ in reversed(called_layers) if is_linear_or_conv(layer)), ""
    )
    raise UserError(
        f"`model.module` must give {outputs} logits for each image, as `benchmark` has so many, "
        f"found {result} for {EXAMPLES} images after its layer `{last}`: an argument such as "
        "model.arguments={num_classes:outputs} sets their number"
    )


def refusal_sentence(
    error: BaseException, called_layers: list[LayerCall], image_shape: tuple[int, int, int]
) -> str:
    """Why a module cannot take the images, in a sentence that names the layer it came to."""
    size = " x ".join(map(str, image_shape))
    name, layer, x = called_layers[-1] if called_layers else ("", None, torch.empty(0))
    wanted = getattr(layer, "in_channels", None)
    if isinstance(layer, nn.Conv2d) and x.ndim == 4 and x.shape[1] != wanted:
        reason = f"takes {wanted} channels and got {x.shape[1]}"
    else:
        reason = f"says: {error_text(error)}"
    return (
        f"`model.module` must take the benchmark's images of {size} (channels x height x width), "
        f"found that its layer `{name}` {reason}"
    )


def make_obstacle(
    function: ModuleFunction, params: Tensor, statistics: Tensor, image_shape: tuple[int, int, int]
) -> Callable[[StepExecution], str]:
    """`Model.obstacle` of a module, which tries each way to execute a step once and compares
    the gradients.

    params [P], statistics [S]: with which it is tried.
    """
    findings: dict[StepExecution, str] = {}

    def gradient(
        take: Callable[..., object],
        params: Tensor,
        statistics: Tensor,
        images: Tensor,
        keys: Tensor,
    ) -> tuple[Tensor, Tensor]:
        def loss(params: Tensor) -> tuple[Tensor, Tensor]:
            output = function.apply(params, statistics, images, True, keys)
            target = torch.zeros(len(images), dtype=torch.long, device=images.device)
            return cross_entropy(output.logits, target), output.statistics

        g, (_, statistics) = take(loss)(params)  # type: ignore[operator]
        return g, statistics

    def attempt(execution: StepExecution) -> str:
        images, keys = trial_images(image_shape), torch.arange(EXAMPLES)
        inputs = params, statistics, images, keys
        wanted = gradient(autograd_gradient_and_value, *inputs)
        try:
            if execution == "batched":
                batched = torch.func.vmap(lambda *each: gradient(functional_gradient, *each))
                g, moved = (t[0] for t in batched(*(x.expand(2, *x.shape) for x in inputs)))
            else:
                recorded = record(
                    lambda *each: gradient(autograd_gradient_and_value, *each), *inputs
                )
                g, moved = recorded(*inputs)
        except Exception as error:  # what PyTorch or the user's own module raises
            return f"it cannot be {execution}: {' '.join(str(error).split())[:300]}"
        distance = float((g - wanted[0]).norm() / wanted[0].norm().clamp_min(1e-30))
        same = distance < TOLERANCE and torch.allclose(moved, wanted[1], 1e-3, 1e-4)
        return "" if same else f"its gradient is another when it is {execution}"

    def obstacle(execution: StepExecution) -> str:
        if execution not in findings:
            findings[execution] = attempt(execution)
        return findings[execution]

    return obstacle
