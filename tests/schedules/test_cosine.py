import pytest
from torch.optim.lr_scheduler import CosineAnnealingLR

from gradalign_cli.errors import UserError
from gradalign_cli.schedules.cosine import cosine
from tests.schedules.pytorch import factors, pytorchs_factors


def test_it_is_pytorchs_cosine_after_the_warm_up():
    expected = pytorchs_factors(lambda o: CosineAnnealingLR(o, 10, eta_min=0.05), 10)
    assert factors(cosine(0.05, 0, "task"), 10) == pytest.approx(expected)
    assert factors(cosine(0.05, 3, "task"), 13) == pytest.approx([0.25, 0.5, 0.75, *expected])


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"`schedule.least_share` must be in \[0, 1\], found 1.5"):
        cosine(1.5, 0, "task")
