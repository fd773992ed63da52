"""Which runs count as runs of a cell."""

import numpy as np
import pytest

from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.results.metrics import metrics
from gradalign_cli.tables.results import compose_cell, run_key
from gradalign_cli.tables.table import load_table, table_names


def test_a_key_depends_on_what_is_computed_and_not_on_the_machine_or_the_seeds():
    def config_key(*overrides):
        return run_key(compose_config(CONF, overrides).settings)

    same = config_key("replicas.seed=[1,2]", "engine=vmap", "threads=1", "resume=auto")
    assert same == config_key()
    overrides = ("replicas.lr=0.2", "method=er", "passes=2", "buffer=uniform")
    assert len({config_key(), *map(config_key, overrides)}) == 5


def test_a_quick_run_has_another_key_than_a_full_one_and_full_ones_that_of_earlier_versions():
    config, quick = (
        compose_config(CONF, overrides).settings for overrides in ((), ("quick=true",))
    )
    assert run_key(quick) != run_key(config)
    del config["quick"]  # which earlier versions did not have
    assert run_key(config) == run_key(compose_config(CONF, ()).settings)
    small = compose_config(CONF, ("benchmark.first_tasks=3", "benchmark.samples_per_task=200"))
    assert run_key(small[0]) not in (run_key(quick), run_key(config))


def test_a_setting_that_earlier_versions_lack_is_part_of_the_key_where_it_changes_the_run():
    config = compose_config(CONF, ("optimizer.momentum=0.9",)).settings
    changes = ("alignment.of=update", "optimizer.nesterov=true", "optimizer.at_task_end=reset")
    changed = [compose_config(CONF, ("optimizer.momentum=0.9", c)).settings for c in changes]
    assert len({run_key(config), *map(run_key, changed)}) == 4
    key = run_key(config)
    for group, setting in (tuple(c.partition("=")[0].split(".")) for c in changes):
        del config[group][setting]
    assert run_key(config) == key


def test_the_number_of_threads_is_part_of_the_key_where_rounding_changes_accuracies():
    def config_key(*overrides):
        return run_key(compose_config(CONF, overrides).settings)

    for model in ("reduced_resnet18", "resnet18", "alexnet", "lenet"):
        overrides = ("benchmark=split_cifar10", f"model={model}")
        keys = {config_key(*overrides, f"threads={threads}") for threads in ("null", 1, 2)}
        assert len(keys) == 3


def test_a_cell_takes_the_runs_with_the_threads_that_were_asked_for():
    def runs_key(cell, *overrides):
        return run_key(compose_config(CONF, (*cell.overrides, *overrides)).settings)

    cells = {cell.name: cell for cell in load_table(CONF, "agem-2019-table4").cells}
    convolutional, plain = cells["Split CIFAR, VAN"], cells["Permuted MNIST, VAN"]
    for overrides in ((), ("threads=1",), ("threads=2", "device=cpu", "hydra/launcher=basic")):
        threads = [override for override in overrides if override.startswith("threads")]
        key = run_key(compose_cell(CONF, convolutional, False, overrides))
        assert key == runs_key(convolutional, *threads)
        assert key != runs_key(convolutional, "threads=3")
        assert run_key(compose_cell(CONF, plain, False, overrides)) == runs_key(plain, "threads=3")


@pytest.mark.parametrize("name", table_names(CONF))
def test_the_cells_that_can_be_run_compose_and_say_what_a_table_needs(name):
    """They differ, or a run would count twice; they give each published metric, or they would be
    repeated at every call; their step size is one that the experiment or the cell gives its method.
    """
    table = load_table(CONF, name)
    runnable = [cell for cell in table.cells if cell.missing_requirement is None]
    configs = [compose_cell(CONF, cell, False) for cell in runnable]
    assert len(set(map(run_key, configs))) == len(runnable)
    assert all(
        0 < abs(value) <= 1 or value == 0 for c in table.cells for value in c.published.values()
    )
    assert all(cell.tolerance_reason for cell in runnable)
    for cell, config in zip(runnable, configs, strict=True):
        batches = config["metrics"]["lca_batches"]
        learning_curves = np.zeros((2, batches + 1)) if batches else None
        run_metrics = metrics(np.zeros((3, 2)), learning_curves).keys()
        if config["benchmark"].get("scenario") == "class":
            run_metrics |= {f"{metric}_task" for metric in run_metrics}
        assert {*cell.published, *cell.unpublished_metrics} <= run_metrics
        has_own_lr = any(override.startswith("replicas.lr=") for override in cell.overrides)
        assert has_own_lr or "lr" in config["paper"].get(config["method"]["name"], {}), cell.name


def test_there_are_thirteen_tables():
    assert len(table_names(CONF)) == 13
