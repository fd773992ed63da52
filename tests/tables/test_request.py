"""What a table is asked for in vain, told before anything is trained or written."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

import gradalign_cli.tables.reproduce as reproduce_module
from gradalign_cli.cli import main
from gradalign_cli.errors import UserError
from gradalign_cli.tables.reproduce import reproduce
from gradalign_cli.tables.request import checked_overrides, requested_table
from gradalign_cli.tables.table import load_table
from tests.tables.tiny_table import AGEM_ONCE, ALL_CELLS, SMALL, TABLE, reproduce_tiny


def test_overrides_that_change_results_and_unknown_cells_and_tables_are_refused(conf, tmp_path):
    assert checked_overrides(["device=cpu", "hydra/launcher=slurm", "report=false"])
    with pytest.raises(UserError, match="`passes=2` is none of the overrides that a table takes"):
        checked_overrides(["passes=2"])
    with pytest.raises(UserError, match="did you mean `device`"):
        checked_overrides(["devise=cpu"])
    with pytest.raises(UserError, match=r"'gem\*' is the name of no cell; did you mean `A-GEM`\?"):
        reproduce_tiny(conf, ALL_CELLS._replace(cell_pattern="gem*"), Path(tmp_path))
    with pytest.raises(UserError, match="'' is the name of no cell, such as 'A-GEM'"):
        reproduce_tiny(conf, ALL_CELLS._replace(cell_pattern=""), Path(tmp_path))
    with pytest.raises(UserError, match="`TABLE` 'teeny' is unknown; did you mean `tiny`"):
        reproduce(conf, "teeny", ALL_CELLS, tmp_path, Console())
    with pytest.raises(UserError, match="`--from` must be folders of finished runs, found '/none'"):
        reproduce_tiny(
            conf, ALL_CELLS._replace(finished_run_folders=(Path("/none"),)), Path(tmp_path)
        )


@pytest.mark.parametrize(
    "override",
    ["device=gpu9", "engine=foo", "memory_budget=-5", "hydra/launcher=foo", "threads=0"],
)
def test_an_override_that_is_not_valid_is_told_before_anything_is_written(override, conf, tmp_path):
    request = ALL_CELLS._replace(overrides=(override,))
    with pytest.raises(UserError, match=override.partition("=")[0]):
        reproduce_tiny(conf, request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


MNIST_CELL = {"overrides": ["benchmark=permuted_mnist"], "published": {"ACC": 0.9}}
LCA_CELL = {"overrides": SMALL, "published": {"LCA10": 0.5}, "tolerance": {"LCA10": 0.1}}


def agem_cell(*overrides):
    """A cell of the digits."""
    return {"overrides": [*SMALL, *overrides], "published": {"ACC": 0.9}}


GRID_CELL = {"overrides": ["replicas.lr=[0.1,0.2]"], "published": {"ACC": 0.9}}


def no_connection(*_, **__):
    raise OSError("no connection")


@pytest.mark.parametrize(
    ("cell", "launcher", "sentence"),
    [
        (MNIST_CELL, (), "mnist was not found in .*nowhere"),
        (GRID_CELL, (), "`cell: replicas.lr` must be one number in a table, found"),
        (LCA_CELL, (), "`cell` lists LCA10, which its runs do not have"),
        (LCA_CELL | {"published": {}, "unpublished": ["min_ACC"]}, (), "`cell` lists min_ACC"),
        (agem_cell("buffer.capcity=3"), (), "cell: `buffer.capcity` is not a sett.* `capacity`"),
        (agem_cell("model.widths=8"), (), "cell: `model.widths` must be a list, found 8"),
        (agem_cell("method._target_=os.system"), (), "cell: `method._target_` must be"),
        (agem_cell("optimizer.momentum=x"), (), "cell: `optimizer.momentum` must be a number"),
        (agem_cell("method=gem", "method.margin=-1"), (), "`method.margin` must be non-negative"),
        (GRID_CELL, ("hydra/launcher=basic",), "`cell: replicas.lr` must be one number"),
    ],
)
def test_a_cell_that_cannot_be_run_here_is_told_before_anything_is_written(
    cell, launcher, sentence, conf, tmp_path, monkeypatch
):
    monkeypatch.setattr("torchvision.datasets.MNIST", no_connection)
    OmegaConf.save(TABLE | {"overrides": [], "cells": {"cell": cell}}, conf / "table/tiny.yaml")
    overrides = (f"data_dir={tmp_path / 'nowhere'}", *launcher)
    with pytest.raises(UserError, match=sentence):
        reproduce_tiny(conf, ALL_CELLS._replace(overrides=overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_name_hydra_would_look_up_is_refused_before_anything_is_written(
    conf, tmp_path
):
    with pytest.raises(UserError, match=r"`--out` must be a folder without \$\{ in it"):
        reproduce_tiny(conf, AGEM_ONCE, tmp_path / "a${oc.env:HOME}")
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_a_cell_is_found_by_its_name_before_names_are_patterns(conf):
    table = load_table(conf, "tiny")
    renamed = table._replace(
        cells=tuple(cell._replace(name=f"[{cell.name}]") for cell in table.cells)
    )
    for request in (
        AGEM_ONCE._replace(cell_pattern="[A-GEM]"),
        AGEM_ONCE._replace(cell_pattern="*A-*"),
    ):
        assert [cell.name for cell in requested_table(renamed, request).cells] == ["[A-GEM]"]


def test_what_a_launcher_trains_elsewhere_is_not_looked_for_here(conf, tmp_path, monkeypatch):
    """The first machine may have neither the GPU nor the data of those that train."""
    OmegaConf.save(
        TABLE | {"overrides": [], "cells": {"cell": MNIST_CELL}}, conf / "table/tiny.yaml"
    )
    started = []
    monkeypatch.setattr(
        reproduce_module, "train_missing_any_failed", lambda runs, *_: started.append(len(runs))
    )
    launcher = ("hydra/launcher=basic", f"data_dir={tmp_path / 'nowhere'}", "device=cuda")
    assert reproduce_tiny(conf, ALL_CELLS._replace(overrides=launcher), tmp_path / "out")[0] == 0
    assert started == [1]


def test_options_and_overrides_of_reproduce_stand_in_any_order(monkeypatch):
    requests = []
    monkeypatch.setattr(
        "gradalign_cli.commands.reproduce.reproduce",
        lambda conf, table, request, folder, console: requests.append((table, request)) or 0,
    )
    words = ["gem-2017-table3", "device=cpu", "threads=1"]
    assert main(["reproduce", *words, "--budget", "0"]) == 0
    assert main(["reproduce", words[0], "--budget", "0", *words[1:]]) == 0
    assert main(["reproduce", words[1], "--budget", "0", words[2], words[0]]) == 0
    assert requests[0] == requests[1] == requests[2]
    table, request = requests[0]
    assert (table, request.budget_minutes) == ("gem-2017-table3", 0)
    assert request.overrides == ("device=cpu", "threads=1")


@pytest.mark.parametrize("arguments", [["device=cpu"], ["a", "b"], ["a", "--budg", "0"]])
def test_reproduce_refuses_arguments_without_one_table_and_abbreviated_options(arguments, capsys):
    assert main(["reproduce", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("option", ["--from", "--out"])
def test_an_empty_folder_name_is_refused(option, capsys):
    assert main(["reproduce", "ogd-2020", option, ""]) == 2
    assert f"`{option}` must be the name of a folder" in capsys.readouterr().err
