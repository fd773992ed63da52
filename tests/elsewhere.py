"""A device that is not there: its tensors hold their numbers on the CPU and are as strict as a
GPU's. What mixes them with the CPU's fails, and so does what draws them from a CPU's generator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")  # the one name that needs neither a driver nor an extension
CPU = torch.device("cpu")
MOVES = ("_to_copy", "copy_")
BY_PLACE = ("index", "index_put", "index_put_", "_index_put_impl_")  # a GPU fetches a CPU's places


class Held(Tensor):
    """A tensor elsewhere, its numbers in `numbers`."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "Held":
        held: Held = Tensor._make_wrapper_subclass(
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=ELSEWHERE,
        )
        held.numbers = numbers
        return held

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.numbers.untyped_storage()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return operate(function, args, kwargs or {})


class Making(TorchFunctionMode):
    """Numbers of Python are made a tensor here, and then moved."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and kwargs.get("device") == ELSEWHERE:
            return function(*args, **kwargs | {"device": CPU}).to(ELSEWHERE)
        if function is Tensor.new_tensor and args[0].device == ELSEWHERE:
            return args[0].cpu().new_tensor(*args[1:], **kwargs).to(ELSEWHERE)
        if function is Tensor.tolist:
            return function(args[0].cpu())
        return function(*args, **kwargs)


class Operating(TorchDispatchMode):
    """What is made on `ELSEWHERE` holds numbers."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return operate(function, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """`ELSEWHERE` is a device."""
    with Making(), Operating():
        yield ELSEWHERE


def operate(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do what a GPU would, on the numbers."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(tensor, Held) for tensor in tensors)
    here = any(tensor.dim() for tensor in tensors if not isinstance(tensor, Held))
    name, asked = function.overloadpacket.__name__, kwargs.get("device")
    by_place = name in BY_PLACE and isinstance(args[0], Held)
    if there and here and name not in MOVES and not by_place:
        raise RuntimeError(f"{function} meets tensors of two devices")
    to = asked or (ELSEWHERE if there else CPU)
    if to == ELSEWHERE and kwargs.get("generator") is not None:
        raise RuntimeError(f"{function} elsewhere draws from a CPU's generator")
    if asked:
        kwargs = kwargs | {"device": CPU}
    found = function(*tree_map(numbers_of, args), **tree_map(numbers_of, kwargs))
    written = [
        args[place] if place < len(args) else kwargs[argument.name]
        for place, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and (place < len(args) or argument.name in kwargs)
    ]
    if written and isinstance(found, Tensor):
        if isinstance(written[0], Held) and written[0].shape != found.shape:  # squeeze_, say
            with torch._C._DisableTorchDispatch():
                function(*args, **kwargs)
        return written[0]
    return tree_map(held, found) if to == ELSEWHERE else found


def numbers_of(leaf: Any) -> Any:
    """What an operation on the CPU takes."""
    return leaf.numbers if isinstance(leaf, Held) else leaf


def held(leaf: Any) -> Any:
    """What an operation elsewhere returns."""
    return Held(leaf) if isinstance(leaf, Tensor) and not isinstance(leaf, Held) else leaf
