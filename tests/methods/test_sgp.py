import torch

from gradalign_cli.methods.gpm import gpm
from gradalign_cli.methods.sgp import scaled, sgp
from gradalign_cli.numerics.trees import pad_to_shape
from tests.methods.test_gpm import parts_of
from tests.runs import make_replicas
from tests.step.test_step import learner_after


def test_importance_grows_with_the_singular_value_up_to_one():
    values = torch.tensor([4.0, 2.0, 1.0])
    assert scaled(values, 0.0).tolist() == [1.0, 0.5, 0.25]
    torch.testing.assert_close(scaled(values, 3.0), torch.tensor([1.0, 8 / 10, 4 / 7]))
    torch.testing.assert_close(scaled(values, 1e9), torch.ones(3))


def test_with_infinite_scale_it_is_gpm(tiny):
    methods = (gpm([0.95], 0.0, 10, "strict", True), sgp([0.95], 0.0, 10, "strict", True, 1e9))
    found = []
    for method in methods:
        parts = parts_of(tiny, method)
        found.append(learner_after(parts, make_replicas(parts)[0], 2).params)
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_importance_adds_up_over_tasks_and_what_it_removes_lies_between(tiny):
    parts = parts_of(tiny, sgp([0.95], 0.0, 10, "strict", True, 1.0))
    replica = make_replicas(parts)[0]
    one = learner_after(parts, replica, 1).method_state
    two = learner_after(parts, replica, 2).method_state
    for before, after in zip(one.importance, two.importance, strict=True):
        before = pad_to_shape(before, after.shape)
        held = before > 0
        assert (after[held] >= before[held]).all()
        assert (after <= 1).all()
        assert (before[held] < 1).any() or held.sum() == 1
