import pytest
from torch.optim.lr_scheduler import MultiStepLR

from gradalign_cli.errors import UserError
from gradalign_cli.schedules.step import step
from tests.schedules.pytorch import factors, pytorchs_factors


def test_milestones_are_pytorchs_as_shares():
    """Passes 49 and 63 of 70, as in iCaRL, here with ten steps a pass."""
    expected = pytorchs_factors(lambda o: MultiStepLR(o, [490, 630], gamma=0.2), 700)
    assert factors(step([0.7, 0.9], 5.0, 0, "task"), 700) == pytest.approx(expected)
    assert factors(step([0.5], 2.0, 1, "task"), 5) == pytest.approx([0.5, 1, 1, 0.5, 0.5])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (([], 2.0), r"`schedule.milestones` must be a list of numbers in \(0, 1\), found \[\]"),
        (([0.5, 1.0], 2.0), r"`schedule.milestones` must be a list of numbers in \(0, 1\)"),
        (([0.5], 1.0), "`schedule.factor` must be above 1, found 1.0"),
    ],
)
def test_values_out_of_range_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        step(*settings, 0, "task")
