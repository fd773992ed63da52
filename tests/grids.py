"""Grids of which the default suite tries a part; `pytest -m long` tries the rest."""

import pytest


def rest_is_long(cases, tried):
    """The cases as parameters of a test. Those that are not named in `tried`, or whose first value
    is not, are marked as long."""
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    assert set(tried) <= {row[0] for row in rows}
    return [pytest.param(*row, marks=[pytest.mark.long] * (row[0] not in tried)) for row in rows]
