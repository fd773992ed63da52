"""`quick=true` makes a small run of any run, and marks it."""

import json

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.parts import build_run
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.settings import read_plan
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.tables.results import read_key_and_result, run_key


def config_of(*overrides):
    return OmegaConf.create(compose_config(CONF, overrides).settings)


def test_a_quick_run_is_marked_in_every_file_and_in_its_titles(tmp_path):
    console = Console(record=True, width=150)
    config = config_of("quick=true", "passes=9", "model.widths=[8]")
    results = train(config, tmp_path, console)
    said = " ".join(console.export_text().split())
    assert "split_digits: agem, a quick run, 1 replica" in said
    assert "in percent, a quick run" in said
    assert said.count("a quick run") == 3  # of both tables too
    assert results["quick"]
    assert json.loads((tmp_path / "metrics.json").read_text())["quick"]
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["quick"]
    assert record["config"]["quick"]
    assert OmegaConf.load(tmp_path / "config.yaml").quick
    assert len(record["classes"][0]) == 3
    assert record["steps"] == 3 * 5 * 20  # tasks, passes, batches of ten
    key, _ = read_key_and_result(tmp_path)
    assert key == run_key(
        compose_config(CONF, ("quick=true", "passes=9", "model.widths=[8]")).settings
    )


def test_quick_makes_parts_of_blurry_and_of_task_free_streams_small():
    for stream, extra in (("blurry", ()), ("task_free", ("buffer=reservoir", "method=er"))):
        overrides = (f"stream={stream}", "benchmark.scenario=class", "quick=true", *extra)
        parts, (replica,), _ = build_run(config_of(*overrides), CPU)
        assert parts.benchmark.tasks == 3
        assert sum(map(len, replica.stream.train_rows)) == 3 * 200


def test_a_run_that_is_not_quick_is_whole():
    config = config_of("passes=9")
    parts, (replica,), _ = build_run(config, CPU)
    assert parts.benchmark.tasks == 5
    assert len(replica.stream.train_rows[0]) > 200
    assert (read_plan(config).passes, read_plan(config).lca_batches) == (9, 10)
    del config.quick  # as in config.yaml of earlier versions
    assert read_plan(config).passes == 9


def test_quick_is_true_or_false(tmp_path):
    with pytest.raises(UserError, match="`quick` must be true or false, found 3"):
        train(config_of("quick=3"), tmp_path / "run", Console(quiet=True))


def test_a_run_that_cannot_fit_is_refused_before_its_folder_is_made(tmp_path):
    folder = tmp_path / "run"
    for override, setting in (
        ("buffer.capacity=1000000000", "buffer.capacity"),
        ("passes=1000000000", "passes"),
        ("model.widths=[1000000,1000000]", "model"),
    ):
        with pytest.raises(UserError, match=f"`{setting}` must be smaller: the run needs"):
            train(config_of(override), folder, Console(quiet=True))
    assert not folder.exists()
