"""A torch.nn.Module as a function of flat vectors, by torch.func.functional_call."""

import copy
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from gradalign_cli.errors import UserError
from gradalign_cli.models.model import Output
from gradalign_cli.models.module_layout import Layout, matrix_inputs, named_tensors
from gradalign_cli.models.module_noise import KeyedDropout
from gradalign_cli.numerics.trees import Absent

ONE_EXAMPLE = (
    "`model` normalises by the batch and was given one example: take a method that asks for no "
    "gradient of one, and a `batch_size` that leaves none over"
)


class Skeleton(NamedTuple):
    """A copy of the module without numbers, for one thread.

    module:  in training or not, and so it stays.
    submodule_inputs: what submodules were called with in the present pass, by their names.
    """

    module: nn.Module
    submodule_inputs: dict[str, list[Tensor]]


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a module is called with."""
    x: Tensor = args[0] if args else next(iter(kwargs.values()))
    return x


def make_skeleton(module: nn.Module, training: bool, watched_submodules: Sequence[str]) -> Skeleton:
    """A skeleton that notes the inputs of the watched submodules."""
    tensors = [*module.parameters(), *module.buffers()]
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}  # they have no numbers
    module = copy.deepcopy(module, shared).train(training)
    inputs: dict[str, list[Tensor]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            inputs.setdefault(name, []).append(first_input(args, kwargs))

        return hook

    for name in watched_submodules:
        module.get_submodule(name).register_forward_pre_hook(note(name), with_kwargs=True)
    for submodule in module.modules():
        if (
            isinstance(submodule, _BatchNorm)
            and submodule.training
            and submodule.track_running_stats
        ):
            submodule.register_forward_pre_hook(normalise_one_value_by_running_statistics)
    return Skeleton(module, inputs)


def normalise_one_value_by_running_statistics(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Where BatchNorm in training meets one value a channel, which has no variance and which
    PyTorch refuses, it normalises as in testing."""
    (x,) = args
    module.training = x.numel() > x.shape[1]


class ModuleFunction:
    """The passes of a module as functions of params [P], statistics [S] and images.

    Each thread has skeletons of its own, as a functional call exchanges a module's tensors.
    """

    def __init__(self, module: nn.Module, layout: Layout, has_dropout: bool) -> None:
        """module: whose tensors are on the meta device;  has_dropout: whether it has dropout."""
        self.module, self.layout, self.has_dropout = module, layout, has_dropout
        self.of_thread = threading.local()

    def skeleton(self, training: bool, watched_submodules: Sequence[str]) -> Skeleton:
        """This thread's skeleton."""
        skeletons = self.of_thread.__dict__.setdefault("skeletons", {})
        key = training, tuple(watched_submodules)
        if key not in skeletons:
            skeletons[key] = make_skeleton(self.module, training, watched_submodules)
        skeleton: Skeleton = skeletons[key]
        return skeleton

    def call(
        self,
        skeleton: Skeleton,
        tensors: dict[str, Tensor],
        images: Tensor,
        noise_keys: Tensor | Absent,
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """The logits [n, outputs], and what the watched submodules were called with."""
        skeleton.submodule_inputs.clear()
        noise = (
            KeyedDropout(noise_keys)
            if self.has_dropout and skeleton.module.training
            else nullcontext()
        )
        try:
            with noise:
                logits: Tensor = functional_call(
                    skeleton.module, tensors, (images,), tie_weights=False, strict=True
                )
            return logits, dict(skeleton.submodule_inputs)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise UserError(ONE_EXAMPLE) from error
            raise
        finally:
            skeleton.submodule_inputs.clear()

    def apply(
        self,
        params: Tensor,
        statistics: Tensor,
        images: Tensor,
        training: bool,
        noise_keys: Tensor | Absent = (),
    ) -> Output:
        """`Model.apply`. Features are the inputs of the last layer, or else the logits."""
        layout = self.layout
        tensors = named_tensors(layout, params, statistics)
        watched_submodules = [layout.head_name] if layout.head_name else []
        skeleton = self.skeleton(training, watched_submodules)
        logits, inputs = self.call(skeleton, tensors, images, noise_keys)
        features = inputs[layout.head_name][-1].flatten(1) if layout.head_name else logits
        if training and layout.statistic_names:
            new_statistics = [tensors[name] for name in layout.statistic_names]
            statistics = flatten_detached(new_statistics, statistics.dtype)
        return Output(logits, features, statistics)

    def layer_inputs(
        self, params: Tensor, statistics: Tensor, images: Tensor
    ) -> tuple[Tensor, ...]:
        """`Model.layer_inputs`: the rows of a layer are those of the first example, then those of
        the second, and so on."""
        names = self.layout.matrix_module_names
        tensors = named_tensors(self.layout, params, statistics)
        skeleton = self.skeleton(False, names)
        _, inputs = self.call(skeleton, tensors, images, ())
        result = []
        for name in names:
            module = skeleton.module.get_submodule(name)
            parts = [matrix_inputs(module, x, len(images)) for x in inputs[name]]
            result.append(torch.cat(parts, 1).flatten(0, 1))
        return tuple(result)


def flatten_detached(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Tensors as one vector of a type, through which no gradient flows."""
    return torch.cat([tensor.detach().flatten().to(dtype) for tensor in tensors])
