"""Generators of random numbers, one for each purpose."""

import hashlib

import torch
from torch import Tensor


def generator(seed: int, purpose: str, task: int = 0) -> torch.Generator:
    """A generator of its own for each (seed, purpose, task), so that no draw moves another."""
    key = hashlib.blake2b(f"{seed}|{purpose}|{task}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)


def permutation(count: int, source: torch.Generator) -> Tensor:
    """A drawn order of `count`, on its generator's device whatever the default is."""
    return torch.randperm(count, generator=source, device=source.device)
