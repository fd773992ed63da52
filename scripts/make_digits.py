"""Make `gradalign_cli/data/digits.npz` from scikit-learn's copy of the UCI digits. Needs the extra
`bench`."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

PATH = Path(__file__).resolve().parent.parent / "gradalign_cli" / "data" / "digits.npz"

digits = load_digits()
images = np.round(digits.images * 255 / 16).astype(np.uint8)
labels = digits.target.astype(np.int64)
is_test = np.arange(len(images)) % 5 == 0
np.savez_compressed(
    PATH,
    x_train=images[~is_test],
    y_train=labels[~is_test],
    x_test=images[is_test],
    y_test=labels[is_test],
)
print(PATH, PATH.stat().st_size, "bytes")
