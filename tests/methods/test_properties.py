"""Directions of arbitrary gradients: zero, collinear or opposed, of any number and length."""

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from gradalign_cli.contract.gradients import make_gradients
from tests.methods.catalogue import METHODS, method
from tests.methods.claims import EXACT_SETTINGS, assert_claims
from tests.methods.given import make_setup

METHODS_WITH_REFERENCES = [name for name in METHODS if method(name).references != "nothing"]


@st.composite
def arbitrary_gradients(draw, several_references):
    """Gradients with small whole numbers as entries, the references times one scale, so that two of
    them are either collinear or clearly not. Many are zero or a multiple of another."""
    size = draw(st.integers(1, 6))
    count = draw(st.integers(1, 4)) if several_references else 1
    row = st.lists(st.integers(-3, 3), min_size=size, max_size=size)
    rows = [draw(row | st.just([0] * size))]
    for _ in range(count):
        factor = st.integers(-2, 2)
        multiple = st.tuples(factor, st.sampled_from(rows)).map(lambda p: [p[0] * x for x in p[1]])
        rows.append(draw(row | multiple))
    g, *references = rows
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    available = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    losses = draw(st.lists(st.sampled_from([0.0, 0.1, 3.0]), min_size=count, max_size=count))
    references = scale * torch.tensor(references, dtype=dtype) * available[:, None]
    loss, seed = draw(st.sampled_from([0.0, 0.1, 3.0])), draw(st.integers(0, 9))
    return make_gradients(
        torch.tensor(g, dtype=dtype), references, available, loss, losses, seed=seed
    )


@pytest.mark.parametrize("name", METHODS_WITH_REFERENCES)
def test_directions_of_arbitrary_gradients_satisfy_the_claims_of_the_method(name):
    claiming = method(name, **EXACT_SETTINGS.get(name, {}))

    @settings(max_examples=80, derandomize=True, deadline=None, database=None)
    @for_all(arbitrary_gradients(claiming.references == "per_task"))
    def satisfies_claims(gradients):
        setup = make_setup(gradients.g, len(gradients.references) + 1, gradients.layers)
        state = claiming.init(setup)
        direction, _ = claiming.align(gradients, state)
        assert direction.shape == gradients.g.shape
        assert direction.dtype == gradients.g.dtype
        assert direction.isfinite().all()
        if not gradients.available.any():
            torch.testing.assert_close(direction, gradients.g)
        if direction.dtype == torch.float64:
            assert_claims(claiming, gradients, state, direction)

    satisfies_claims()
