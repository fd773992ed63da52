"""Any torch.nn.Module that maps images [n, channels, height, width] to logits [n, outputs]."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn

from gradalign_cli.errors import UserError, error_text, require
from gradalign_cli.models.model import Model
from gradalign_cli.models.module_forward import ModuleFunction
from gradalign_cli.models.module_layout import flatten_named, make_layout
from gradalign_cli.models.module_trial import make_obstacle, try_module
from gradalign_cli.models.start_weights import check_tensors_fit, read_tensors

SAFE_LOADING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # which torch.load obeys


@contextmanager
def without_pickles() -> Iterator[None]:
    """A context in which torch.load reads tensors and nothing else, whoever calls it."""
    before = os.environ.get(SAFE_LOADING)
    os.environ[SAFE_LOADING] = "1"
    try:
        yield
    finally:
        os.environ.pop(SAFE_LOADING)
        if before is not None:
            os.environ[SAFE_LOADING] = before


def build_module(
    build: Callable[..., nn.Module], module_name: str, arguments: dict[str, Any], seed: int
) -> nn.Module:
    """A module in float32, whose first weights are drawn from a seed and not from the global
    generator. UserError where it cannot be built."""
    try:
        with torch.random.fork_rng(devices=[]), without_pickles(), torch.device("cpu"):
            torch.manual_seed(seed)
            module = build(**arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # what the user's own function raises
        raise UserError(
            f"`model.arguments` must be what {module_name} can be called with, found {arguments}: "
            f"{error_text(error)}"
        ) from error
    is_module = isinstance(module, nn.Module)
    require(is_module, "model.module", "what makes a torch.nn.Module", type(module).__name__)
    lazy = any(nn.parameter.is_lazy(tensor) for tensor in module.parameters())
    require(not lazy, "model.module", "a module whose parameters have shapes", "lazy ones")
    return module.float()


def check_finite(parameters: Mapping[str, Tensor]) -> None:
    """Raise UserError, naming the parameter, where first weights are not finite."""
    for name, tensor in parameters.items():
        finite = bool(torch.isfinite(tensor).all())
        domain = f"a module with finite first weights in `{name}`"
        require(finite, "model.module", domain, "NaN or infinity")


def module(
    module: str,
    arguments: dict[str, Any],
    weights: str | None,
    shape: tuple[int, int, int],
    outputs: int,
    build: Callable[..., nn.Module],
) -> Model:
    """A model out of the module that `build(**arguments)` makes.

    Frozen parameters and buffers are statistics; they are alike in all replicas before training.
    Dropout follows the noise keys. Other random numbers are refused.

    module:    the name of `build`.
    arguments: of `build`; the texts `outputs` and `channels` stand for those numbers.
    weights:   the path of a file with the first weights, the same for all replicas; what it leaves
               out of the last layer is drawn as usual. None: all is as `build` makes it.
    shape:     (channels, height, width) of an image.
    build:     called once for every seed, after the global generator was seeded.
    """
    require(isinstance(arguments, dict), "model.arguments", "settings with values", arguments)
    words = {"outputs": outputs, "channels": shape[0]}
    arguments = {
        str(name): words.get(value, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    template = build_module(build, module, arguments, 0)
    trial = try_module(template, shape, outputs)
    layout = make_layout(template, trial.call_order)
    require(bool(layout.param_names), "model.module", "a module with parameters to train", module)
    start: dict[str, Tensor] = {}
    if weights is not None:
        start = read_tensors(weights)
        check_tensors_fit(start, template, trial.call_order[-1] if trial.call_order else None)
        template.load_state_dict(start, strict=False)
    initial_statistics = flatten_named(
        template.state_dict() | dict(template.named_buffers()), layout.statistic_names
    )
    check_finite(dict(template.named_parameters()))
    initial_params = flatten_named(dict(template.named_parameters()), layout.param_names)
    convolutional = any(isinstance(m, nn.Conv2d) for m in template.modules())
    function = ModuleFunction(template.to("meta"), layout, trial.has_dropout)

    def init(generator: Generator) -> Tensor:
        seed = int(torch.randint(2**62, (), generator=generator))
        drawn = dict(build_module(build, module, arguments, seed).named_parameters())
        first = drawn | {name: tensor for name, tensor in start.items() if name in drawn}
        check_finite(first)
        return flatten_named(first, layout.param_names)

    return Model(
        init,
        initial_statistics,
        function.apply,
        convolutional or trial.changes_buffers,
        layout.layers,
        function.layer_inputs if layout.head_name else None,
        trial.has_dropout,
        make_obstacle(function, initial_params, initial_statistics, shape),
    )
