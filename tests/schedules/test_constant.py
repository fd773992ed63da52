import pytest
from torch.optim.lr_scheduler import LinearLR

from gradalign_cli.errors import UserError
from gradalign_cli.schedules.constant import constant
from tests.schedules.pytorch import factors, pytorchs_factors


def test_the_warm_up_is_pytorchs_linear_one():
    sizes = factors(constant(4, "run"), 8)
    assert sizes == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])
    assert sizes == pytest.approx(
        pytorchs_factors(lambda o: LinearLR(o, start_factor=1 / 5, total_iters=4), 8)
    )
    assert factors(constant(9, "run"), 3) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((-1, "run"), "`schedule.warm_up` must be non-negative, found -1"),
        ((0, "pass"), "`schedule.over` must be one of task, run, found 'pass'"),
    ],
)
def test_what_is_no_warm_up_and_no_span_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        constant(*settings)
