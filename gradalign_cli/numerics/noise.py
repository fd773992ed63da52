"""Random numbers that a key stands for, so that a step can draw many of them and stay a function.

SplitMix64 (Steele, Lea & Flood 2014): the k-th output is a mixture of key + k * GAMMA, which any
device computes alike, in any order, batched or recorded.
"""

import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15 - 2**64  # as signed numbers of 64 bits, whose products wrap around
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64
LEVELS = 2**16  # of a number; an output of the generator holds four


def shifted(x: Tensor, bits: int) -> Tensor:
    """x ^ (x >> bits), with zeros shifted in."""
    mixed: Tensor = x ^ ((x >> bits) & (2 ** (64 - bits) - 1))
    return mixed


def numbers(keys: Tensor, count: int) -> Tensor:
    """Whole numbers [n, count], uniform in -2**15 .. 2**15 - 1, that keys [n] stand for."""
    steps = torch.arange(1, -(-count // 4) + 1, device=keys.device)
    x = keys[:, None] + GAMMA * steps
    x = shifted(shifted(shifted(x, 30) * FIRST, 27) * SECOND, 31)
    return x.view(torch.int16)[:, :count]


def drop(x: Tensor, share: float, drawn: Tensor) -> Tensor:
    """x [n, ...] with a share of its entries at 0, the others enlarged so that the mean stays.

    drawn: [n, entries of an example] `numbers`, of which the lowest share decides (Srivastava et
    al. 2014, with the scaling in training; the share is rounded to a multiple of 1 / 65536).
    """
    lost = min(round(share * LEVELS), LEVELS - 1)
    kept = (drawn >= lost - LEVELS // 2).view(x.shape)
    return torch.where(kept, x * (LEVELS / (LEVELS - lost)), 0.0)
