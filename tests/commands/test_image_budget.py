"""`image_budget` says how many images the device may hold, and changes no result."""

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.commands.evaluate import evaluate
from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.finished_run import read_run_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.tables.results import run_key

SMALL = (
    *("benchmark.samples_per_task=20", "benchmark.first_tasks=3", "metrics.lca_batches=0"),
    *("metrics.continual_every=2", "replicas.seed=[0,1]", "method=er", "buffer.capacity=10"),
    *("buffer.capacity_per=total", "report=false"),
)
OF_ONE_REPLICA = 71 * 64 / 2**30  # padding, 10 in memory, two steps of 10 three times


def composed(*overrides):
    return compose_config(CONF, (*SMALL, *overrides))[0]


def run(folder, *overrides):
    """The metrics, the rows of the tables of a run in any order, and what it said."""
    console = Console(record=True, width=200)
    results = train(OmegaConf.create(composed(*overrides)), folder, console)
    names = ("accuracy.csv", "alignment.csv", "continual.csv")
    tables = [sorted((folder / name).read_text().splitlines()) for name in names]
    return results, tables, console.export_text()


def test_a_run_with_images_on_the_host_writes_the_same_tables(tmp_path):
    results, tables, _ = run(tmp_path / "whole")
    for count in (1, 2):
        budget = f"image_budget={count * OF_ONE_REPLICA}"
        narrow_results, narrow_tables, said = run(tmp_path / str(count), budget)
        assert (narrow_results, narrow_tables) == (results, tables)
        assert "images of the dataset stay on the host" in said
        folders = (tmp_path / "whole", tmp_path / str(count))
        configs = [read_run_config(folder, [], None) for folder in folders]
        assert configs[1].image_budget == count * OF_ONE_REPLICA
        tested = [evaluate(*each) for each in zip(folders, configs, strict=True)]
        assert (tested[0] == tested[1]).all()
    assert run_key(composed("image_budget=1")) == run_key(composed())


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (OF_ONE_REPLICA * 0.99, "`image_budget` must be at least 4.24e-06, for the memory and the"),
        (0, "`image_budget` must be above 0 or null, found 0"),
        ("little", "`image_budget` must be above 0 or null, found 'little'"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_anything_is_written(value, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        run(tmp_path / "refused", f"image_budget={value}")
    assert not list(tmp_path.iterdir())
