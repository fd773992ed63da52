"""Generators of random numbers, one for each purpose."""

import hashlib

import torch
from torch import Tensor


def generator(seed: int, purpose: str, task: int = 0) -> torch.Generator:
    """A CPU generator for each (seed, purpose, task), so that no draw changes those of another
    purpose or task."""
    key = hashlib.blake2b(f"{seed}|{purpose}|{task}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)


def permutation(count: int, source_generator: torch.Generator) -> Tensor:
    """A random order [count] of the numbers 0 .. count - 1, on the device of the generator
    whatever the default device is."""
    return torch.randperm(count, generator=source_generator, device=source_generator.device)
