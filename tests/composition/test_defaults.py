"""The defaults of the methods with a penalty or steps of their own, on the digits that ship."""

import pytest

from gradalign_cli.numerics.generators import generator
from gradalign_cli.training.replica_groups import train_replica_groups
from gradalign_cli.training.runaway import RunawayWarner
from tests.composition.test_configs import compose_config, prepared
from tests.grids import rest_is_long

METHODS = ["ewc", "ewc_pp", "si", "mas", "rwalk", "lwf", "la_maml", "adam_nscl"]


@pytest.mark.parametrize("scenario", rest_is_long(["task", "domain", "class"], ["task"]))
@pytest.mark.parametrize("name", METHODS)
def test_with_its_defaults_a_method_is_stable_and_learns_where_tasks_are_told(name, scenario):
    """Seeds 3 and 5 are those whose parameters ran away with EWC's former strength of 100."""
    config = compose_config(f"method={name}", f"benchmark.scenario={scenario}")
    config.replicas.seed = [0, 3, 5]
    parts, replicas, plan, engine = prepared(config)
    warned = []
    watcher = RunawayWarner(parts.benchmark.outputs, warned.append)
    outcome = train_replica_groups(parts, replicas, engine, plan, [watcher], [[0], [1], [2]])
    assert warned == []
    norms = outcome.learners.params.norm(dim=1)
    initial_norms = [parts.model.init(generator(seed, "network")).norm() for seed in (0, 3, 5)]
    assert all(norm < 2 * initial for norm, initial in zip(norms, initial_norms, strict=True))
    if scenario == "task":
        assert outcome.accuracy[:, -1].mean() > 0.8


class BrokenConstraints:
    """A watcher that counts applied updates that hurt a reference, of those that were measured."""

    def __init__(self):
        self.broken, self.measured = 0.0, 0

    def begin_replica_group(self, replicas):
        pass

    end_replica_group = after_test = lambda *_: None

    def after_steps(self, moment):
        broken = moment.trace.applied_update_violates[moment.measured_step_mask]
        self.broken += float(broken.nan_to_num().sum())
        self.measured += int((~broken.isnan()).sum())
        return False


@pytest.mark.parametrize("scenario", ["task", "class"])
@pytest.mark.parametrize("name", ["agem", "gem"])
def test_by_default_no_applied_step_hurts_the_memory(name, scenario):
    config = compose_config(f"method={name}", f"benchmark.scenario={scenario}")
    config.replicas.seed = [0, 1, 2]
    parts, replicas, plan, engine = prepared(config)
    count = BrokenConstraints()
    train_replica_groups(parts, replicas, engine, plan, [count], [[0], [1], [2]])
    assert count.measured > 30
    assert count.broken == 0
