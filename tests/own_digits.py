"""A user's own dataset, made of the packaged digits."""

import numpy as np

from gradalign_cli.data.sources import PACKAGED_DIGITS


def write_own_digits(folder, first_pixel):
    """Write `own.npz`: the digits with another first pixel; returns the overrides that choose
    it."""
    with np.load(PACKAGED_DIGITS) as digits:
        arrays = dict(digits)
    arrays["x_train"][0, 0, 0] = first_pixel
    np.savez(folder / "own.npz", **arrays)
    return "benchmark=split_mnist", "benchmark.dataset=own", f"data_dir={folder}"
