"""Trees of tensors and plain values as JSON beside a list of tensors, and back, bit for bit."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: what the place of a tensor in memory may matter to


class DescribedTree(NamedTuple):
    """description: JSON in which a tensor is its name and its layout;  tensors: by name."""

    description: Any
    tensors: dict[str, Tensor]


def describe_tree(tree: Any) -> DescribedTree:
    """A tree of tensors, arrays, numbers, texts and None in tuples, named tuples, lists and dicts
    whose keys are texts."""
    tensors: dict[str, Tensor] = {}

    def describe(value: Any) -> Any:
        if isinstance(value, Tensor):
            return describe_tensor(value, tensors)
        if isinstance(value, np.ndarray):
            return {"array": describe_tensor(torch.from_numpy(value), tensors)}
        if hasattr(value, "_fields"):
            return {"fields": {name: describe(getattr(value, name)) for name in value._fields}}
        if isinstance(value, tuple):
            return {"tuple": [describe(part) for part in value]}
        if isinstance(value, list):
            return [describe(part) for part in value]
        if isinstance(value, dict):
            return {"entries": {str(name): describe(part) for name, part in value.items()}}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{type(value).__name__} has no description")

    return DescribedTree(describe(tree), tensors)


def describe_tensor(tensor: Tensor, described_tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The name of a tensor and how it lies in memory.

    described_tensors: gets its numbers, each once. The layout belongs to the result: libraries add
    up in another order where numbers lie otherwise.
    """
    name, repeated = str(len(described_tensors)), tensor
    for dimension, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dimension] > 1:
            repeated = repeated.narrow(dimension, 0, 1)
    in_order = torch.contiguous_format
    described_tensors[name] = repeated.detach().to("cpu", copy=True, memory_format=in_order)
    offset = tensor.storage_offset() * tensor.element_size() % ALIGNMENT // tensor.element_size()
    layout = {"stride": list(tensor.stride()), "offset": offset}
    return {"tensor": name, "shape": list(tensor.shape), **layout}


def rebuild_tree(described: DescribedTree, template: Any = None) -> Any:
    """The tree that was described.

    template: a tree that has the named tuples of the other one in the same places; it may have
    other tensors, and tuples of other lengths, whose last part then serves for the rest. Raises
    ValueError where the named tuples are others.
    """

    def rebuild(value: Any, like: Any) -> Any:
        if isinstance(value, list):
            return [rebuild(part, part_template(like, n)) for n, part in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return rebuild_tensor(value, described.tensors)
        if "array" in value:
            return rebuild_tensor(value["array"], described.tensors).numpy()
        if "tuple" in value:
            return tuple(
                rebuild(part, part_template(like, n)) for n, part in enumerate(value["tuple"])
            )
        if "entries" in value:
            likes = like if isinstance(like, dict) else {}
            return {name: rebuild(part, likes.get(name)) for name, part in value["entries"].items()}
        fields = value["fields"]
        if tuple(fields) != getattr(like, "_fields", None):
            raise ValueError(f"{type(like).__name__} has no fields {', '.join(fields)}")
        return type(like)(*(rebuild(part, getattr(like, name)) for name, part in fields.items()))

    return rebuild(described.description, template)


def part_template(template: Any, position: int) -> Any:
    """The template of a part of a tuple or list: that in its place, or the last one."""
    if not isinstance(template, tuple | list) or not template:
        return None
    return template[min(position, len(template) - 1)]


def rebuild_tensor(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    """The tensor that `describe_tensor` described. Raises ValueError where the layout does not fit
    its numbers."""
    numbers, offset = tensors[description["tensor"]], int(description["offset"])
    own_shape, shape, stride = list(numbers.shape), description["shape"], description["stride"]
    if len(shape) != len(own_shape) or len(stride) != len(shape) or offset not in range(ALIGNMENT):
        raise ValueError("a tensor's layout does not fit it")
    last = sum((size - 1) * step for size, step in zip(own_shape, stride, strict=True))
    if numbers.numel() == 0 or any(step < 0 for step in stride):
        return numbers.reshape(shape)
    storage = numbers.new_zeros(offset + last + 1)
    storage.as_strided(own_shape, stride, offset).copy_(numbers)
    return storage.as_strided(own_shape, stride, offset).expand(shape)
