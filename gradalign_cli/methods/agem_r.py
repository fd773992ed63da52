"""A-GEM-R: A-GEM with a reservoir instead of a ring (Buzzega et al. 2020)."""

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.method import Method


def agem_r() -> Method:
    """A-GEM; the method's yaml selects the reservoir buffer.

    The authors' code takes the reference on the memory of all tasks; here it is on the memory of
    earlier tasks only.
    """
    return agem()
