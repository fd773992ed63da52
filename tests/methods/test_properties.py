"""Whatever the gradients: any number of them, zero, collinear, opposed, short or long."""

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.methods.catalogue import METHODS, method
from tests.methods.claims import CLAIMS, EXACTLY
from tests.methods.given import given, setting

ALIGNING = [name for name in METHODS if method(name).references != "nothing"]


@st.composite
def gradients(draw, many):
    """Gradients with small whole numbers as entries, so that what is not collinear is far from it;
    many are zero or a multiple of another."""
    size, count = draw(st.integers(1, 6)), draw(st.integers(1, 4)) if many else 1
    row = st.lists(st.integers(-3, 3), min_size=size, max_size=size)
    rows = [draw(row | st.just([0] * size))]
    for _ in range(count):
        times = st.integers(-2, 2)
        multiple = st.tuples(times, st.sampled_from(rows)).map(lambda p: [p[0] * x for x in p[1]])
        rows.append(draw(row | multiple))
    g, *refs = rows
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    seen = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    losses = draw(st.lists(st.sampled_from([0.0, 0.1, 3.0]), min_size=count, max_size=count))
    refs = scale * torch.tensor(refs, dtype=dtype) * seen[:, None]
    loss, seed = draw(st.sampled_from([0.0, 0.1, 3.0])), draw(st.integers(0, 9))
    return given(torch.tensor(g, dtype=dtype), refs, seen, loss, losses, seed=seed)


@pytest.mark.parametrize("name", ALIGNING)
def test_any_gradients_get_a_direction_that_holds_what_the_method_claims(name):
    made = method(name, **EXACTLY.get(name, {}))

    @settings(max_examples=80, derandomize=True, deadline=None, database=None)
    @for_all(gradients(made.references == "per_task"))
    def holds(found):
        state = made.init(setting(found.g, len(found.references) + 1, found.layers))
        direction, _ = made.align(found, state)
        assert direction.shape == found.g.shape
        assert direction.dtype == found.g.dtype
        assert direction.isfinite().all()
        if not found.available.any():
            torch.testing.assert_close(direction, found.g)
        if direction.dtype == torch.float64:
            for claim in CLAIMS[name]:
                claim(made, found, state, direction)

    holds()
