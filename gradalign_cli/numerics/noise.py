"""Random numbers as a function of keys: dropout, uniform, normal and Beta numbers.

A step can draw many such numbers and remain a function of its inputs. The generator is SplitMix64
(Steele, Lea & Flood 2014): output k is a hash of key + k * GAMMA. It is the same on every device,
in any order, and where a step is batched, captured or recorded.
"""

import math

import torch
from torch import Tensor

# as signed integers of 64 bits, whose products wrap around
GAMMA = 0x9E3779B97F4A7C15 - 2**64
FIRST_MULTIPLIER = 0xBF58476D1CE4E5B9 - 2**64
SECOND_MULTIPLIER = 0x94D049BB133111EB - 2**64
LEVELS = 2**16  # values of an integer of 16 bits; an output of the generator has four of them


def xor_shift_right(words: Tensor, bits: int) -> Tensor:
    """words ^ (words >> bits) for unsigned integers of 64 bits, which are held as signed ones."""
    mixed: Tensor = words ^ ((words >> bits) & (2 ** (64 - bits) - 1))
    return mixed


def random_integers(keys: Tensor, integers_per_key: int) -> Tensor:
    """For each of the keys [n], integers [n, integers_per_key] uniform in -2**15 .. 2**15 - 1, as
    int16."""
    steps = torch.arange(1, -(-integers_per_key // 4) + 1, device=keys.device)
    x = keys[:, None] + GAMMA * steps
    x = xor_shift_right(xor_shift_right(x, 30) * FIRST_MULTIPLIER, 27) * SECOND_MULTIPLIER
    return xor_shift_right(x, 31).view(torch.int16)[:, :integers_per_key]


def drop_units(x: Tensor, dropped_share: float, integers: Tensor) -> Tensor:
    """Dropout (Srivastava et al. 2014) of activations x [n, ...] in training: a share of them is 0,
    and the others are scaled up so that the mean stays.

    integers: [n, activations of an example] `random_integers`; the activations with the lowest ones
    are dropped. The share is rounded to a multiple of 1 / 65536.
    """
    dropped_levels = min(round(dropped_share * LEVELS), LEVELS - 1)
    retained = (integers >= dropped_levels - LEVELS // 2).view(x.shape)
    return torch.where(retained, x * (LEVELS / (LEVELS - dropped_levels)), 0.0)


def key_from(random_number: Tensor) -> Tensor:
    """A key [] from a random float32 number [] in [0, 1), which has one of 2**24 values."""
    key: Tensor = (random_number * 2**24).long()
    return key


def uniform_numbers(key: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Numbers [count] of the uniform distribution on (0, 1), from a key []; they are odd multiples
    of 2**-17."""
    integers = random_integers(key[None], count)[0].to(dtype)
    uniform: Tensor = (integers + (LEVELS + 1) / 2) / LEVELS
    return uniform


def normal_numbers(key: Tensor, like: Tensor) -> Tensor:
    """Numbers of the standard normal distribution, of the shape [n] and type of `like`, from a key
    [] (Box & Muller 1958). As they come from integers of 16 bits, none is beyond 4.9."""
    count = len(like)
    uniform = uniform_numbers(key, 2 * count, like.dtype)
    radius = (-2 * uniform[:count].log()).sqrt()
    return radius * (2 * math.pi * uniform[count:]).cos()


def beta_numbers(uniform: Tensor) -> Tensor:
    """Numbers [n] of the distribution Beta(a, a) for a whole number a, from uniform numbers
    [2, a, n]: X / (X + Y), where X and Y are sums of a numbers of the exponential distribution."""
    x, y = -uniform.log().sum(1)
    ratio: Tensor = x / (x + y)
    return ratio
