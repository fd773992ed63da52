"""Make `gradalign_cli/data/digits.npz` from scikit-learn's copy of the UCI digits."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
x = np.round(digits.images * 255 / 16).astype(np.uint8)
y = digits.target.astype(np.int64)
test = np.arange(len(x)) % 5 == 0
target = Path(__file__).resolve().parent.parent / "gradalign_cli" / "data" / "digits.npz"
np.savez_compressed(target, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])
print(target, target.stat().st_size, "bytes")
