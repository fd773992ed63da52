"""Dropout inside a torch.nn.Module as a function of keys, so that a step draws nothing itself."""

import math
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gradalign_cli.numerics.noise import GAMMA, drop_units, random_integers
from gradalign_cli.numerics.trees import Absent

WHOLE_CHANNELS = (functional.dropout1d, functional.dropout2d, functional.dropout3d)


def wrapped_to_int64(number: int) -> int:
    """A whole number as a signed integer of 64 bits, without what lies above."""
    return (number + 2**63) % 2**64 - 2**63


class KeyedDropout(TorchFunctionMode):
    """In this context PyTorch's dropout takes its random numbers from the keys [n] of n examples,
    one layer after the other; where the keys are absent nothing is dropped.

    It covers functional.dropout and its kinds for whole channels, and `bernoulli_` with a number,
    by which networks drop whole paths.  used: how many outputs of the generator each key has given.
    """

    def __init__(self, keys: Tensor | Absent) -> None:
        super().__init__()
        self.keys, self.used = keys, 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.dropout or function in WHOLE_CHANNELS:
            return self.dropout(function in WHOLE_CHANNELS, *args, **kwargs)
        if function is Tensor.bernoulli_ and len(args) == 2 and isinstance(args[1], float | int):
            # 1 with probability p: what is left of ones by a dropout of 1 - p, without its scale
            return self.drop(args[0].new_ones(args[0].shape), 1 - args[1]).sign()
        return function(*args, **kwargs)

    def dropout(
        self,
        whole_channels: bool,
        x: Tensor,
        p: float = 0.5,
        training: bool = True,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        """`functional.dropout` and its kinds, never in place."""
        if not training:
            return x
        if not whole_channels:
            return self.drop(x, p)
        channels = x.new_ones(*x.shape[:2], *[1] * (x.ndim - 2))
        return x * self.drop(channels, p)

    def drop(self, x: Tensor, share: float) -> Tensor:
        """x after a dropout of a share of its entries. The entries are dealt out to the keys in
        equal parts."""
        if not isinstance(self.keys, Tensor) or share == 0:
            return x
        entries = math.prod(x.shape) // len(self.keys)
        integers = random_integers(self.keys + wrapped_to_int64(GAMMA * self.used), entries)
        self.used += -(-entries // 4)  # an output gives four integers
        return drop_units(x, share, integers)
