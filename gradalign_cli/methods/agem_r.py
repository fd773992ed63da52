"""A-GEM-R: A-GEM with a reservoir instead of a ring (Buzzega et al. 2020)."""

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.method import Method


def agem_r() -> Method:
    """A-GEM, of which the yaml brings the reservoir. The authors' code refers to the memory of all
    tasks, this to that of earlier ones."""
    return agem()
