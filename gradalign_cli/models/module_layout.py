"""Where the parameters and buffers of a torch.nn.Module lie in the flat vectors of a model."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradalign_cli.errors import UserError
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.vectors import split_vector

LARGEST_EXACT = 2**24  # of whole numbers, in float32
WHOLE_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Layout(NamedTuple):
    """The order of a module's tensors.

    param_names, param_shapes: of the parameters that are trained, as they lie in [P].
    layers:               the parts of [P]: see `make_layout`.
    matrix_module_names:  of the submodules whose weights are the layers with a matrix.
    head_name:            that of the last layer, None where it is no matrix that is trained.
    statistic_names, statistic_shapes, statistic_dtypes: of the parameters that are frozen and of
    all buffers, as they lie in [S], which holds whole numbers and truth values as floats.
    first_name_of_alias:  for each further name of a tensor that modules share, its first name.
    """

    param_names: list[str]
    param_shapes: list[tuple[int, ...]]
    layers: tuple[Layer, ...]
    matrix_module_names: list[str]
    head_name: str | None
    statistic_names: list[str]
    statistic_shapes: list[tuple[int, ...]]
    statistic_dtypes: list[torch.dtype]
    first_name_of_alias: dict[str, str]


def is_linear_or_conv(module: nn.Module) -> bool:
    """Whether a module is a linear layer or a convolution that multiplies its weight with its
    inputs, or their patches, and does nothing else to it."""
    forward = type(module).forward
    linear = isinstance(module, nn.Linear) and forward is nn.Linear.forward
    return linear or (isinstance(module, nn.Conv2d) and forward is nn.Conv2d.forward)


def make_layout(module: nn.Module, call_order: Sequence[str]) -> Layout:
    """The layout of a module that calls its linear layers and convolutions in this order.

    [P] begins with the matrices in the order of their last call, each followed by its bias; then
    come all parameters that are no such matrix, as layers without one (BatchNorm's scales and
    shifts, embeddings, weights that several layers share); the last matrix is the end.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    every = [id(p) for _, p in module.named_parameters(remove_duplicate=False)]
    shared = {number for number, count in Counter(every).items() if count > 1}
    last_calls = list(reversed(dict.fromkeys(reversed(call_order))))
    weights = {name: trained.get(f"{name}.weight") for name in last_calls}
    matrices = [name for name, w in weights.items() if w is not None and id(w) not in shared]
    groups: list[tuple[list[str], Layer]] = []
    for name in matrices:
        weight, bias = trained[f"{name}.weight"], trained.get(f"{name}.bias")
        names = [f"{name}.weight"]
        has_bias = bias is not None and id(bias) not in shared
        size = weight.numel() + (len(weight) if has_bias else 0)
        groups.append((names + [f"{name}.bias"] * has_bias, Layer(size, len(weight), has_bias)))
    in_matrices = {name for names, _ in groups for name in names}
    plain = [
        ([name], Layer(p.numel(), 0, False))
        for name, p in trained.items()
        if name not in in_matrices
    ]
    groups = [*groups[:-1], *plain, *groups[-1:]]
    params = [name for names, _ in groups for name in names]
    unchanging = {n: p for n, p in module.named_parameters() if not p.requires_grad}
    statistics: dict[str, Tensor] = unchanging | dict(module.named_buffers())
    for name, tensor in statistics.items():
        check_exact_in_float32(name, tensor)
    return Layout(
        params,
        [tuple(trained[name].shape) for name in params],
        tuple(layer for _, layer in groups),
        matrices,
        matrices[-1] if last_calls and matrices[-1:] == last_calls[-1:] else None,
        list(statistics),
        [tuple(tensor.shape) for tensor in statistics.values()],
        [tensor.dtype for tensor in statistics.values()],
        tensor_aliases(module),
    )


def tensor_aliases(module: nn.Module) -> dict[str, str]:
    """For each further name of a parameter or buffer, its first name."""
    first_names: dict[int, str] = {}
    every = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    names = {name: first_names.setdefault(id(tensor), name) for name, tensor in every}
    return {name: first for name, first in names.items() if name != first}


def check_exact_in_float32(name: str, tensor: Tensor) -> None:
    """Raise UserError where float32 cannot hold a tensor exactly."""
    whole = tensor.dtype in WHOLE_TYPES
    too_large = whole and bool((tensor.abs() > LARGEST_EXACT).any())
    if too_large or not (whole or tensor.dtype in (torch.float32, torch.bool)):
        raise UserError(
            f"`model.module` must have buffers of float32, whole numbers up to {LARGEST_EXACT} or "
            f"truth values, found `{name}` of {str(tensor.dtype).removeprefix('torch.')}"
        )


def flatten_named(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """The tensors of these names as one vector of float32."""
    return torch.cat(
        [torch.zeros(0), *(tensors[name].detach().flatten().float() for name in names)]
    )


def named_tensors(layout: Layout, params: Tensor, statistics: Tensor) -> dict[str, Tensor]:
    """What [P] and [S] hold, by name; the statistics are new tensors, which may be changed in
    place."""
    tensors = dict(zip(layout.param_names, split_vector(params, layout.param_shapes), strict=True))
    if layout.statistic_names:
        parts = split_vector(statistics, layout.statistic_shapes)
        typed = zip(layout.statistic_names, parts, layout.statistic_dtypes, strict=True)
        # each a copy of its own: under vmap BatchNorm's update of a part of a vector would be lost
        tensors |= {
            name: part.clone() if dtype.is_floating_point else part.to(dtype)
            for name, part, dtype in typed
        }
    return tensors | {name: tensors[first] for name, first in layout.first_name_of_alias.items()}


def matrix_inputs(module: nn.Module, x: Tensor, example_count: int) -> Tensor:
    """The inputs [n, positions, columns] that the matrix of a plain linear layer or convolution
    multiplies, from the input x of the module on n = `example_count` examples.

    A convolution has a position for every place of its kernels, and one more for each of its
    groups: their kernels, which see different channels, count as one matrix.
    """
    if isinstance(module, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        shared = len(rows) % example_count > 0  # by all examples, as a table of positions is
        return (
            rows.expand(example_count, -1, -1) if shared else rows.unflatten(0, (example_count, -1))
        )
    assert isinstance(module, nn.Conv2d)
    padding = module._reversed_padding_repeated_twice  # of "same" too, in numbers
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(x, padding, mode=mode)
    size = (module.kernel_size, module.dilation, 0, module.stride)
    patches = functional.unfold(padded, *size).unflatten(1, (module.groups, -1))
    columns = math.prod(module.weight.shape[1:])
    inputs: Tensor = patches.movedim(2, -1).reshape(example_count, -1, columns)
    return inputs
