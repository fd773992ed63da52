import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.commands.tune import best, tune
from gradalign_cli.composition import parts as configuration
from gradalign_cli.composition.compose import composed
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError
from gradalign_cli.training import evaluation
from tests.commands.test_train import gradalign

GIVEN = ["method=agem", "model.widths=[8]", "replicas.lr=[0.001,0.1]", "replicas.seed=[0,1]"]


def test_the_best_mean_over_seeds_wins():
    def own(seed, lr, accuracy):
        return {"seed": seed, "lr": lr, "ACC": accuracy, "min_ACC": seed / 7, "LCA10": 0.1}

    found = [own(0, 0.1, 0.9), own(1, 0.1, 0.1), own(0, 0.2, 0.6), own(1, 0.2, 0.5)]
    chosen, means = best(found, ["lr"])
    assert chosen == {"lr": 0.2}
    assert list(means.values()) == [0.5, 0.55]


def test_only_the_first_three_tasks_are_seen_and_only_the_others_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = set()
    show = evaluation.load_examples

    def watched(benchmark, view, row, task, weight=(), noise=()):
        seen.update(benchmark.labels[row].flatten().tolist())
        return show(benchmark, view, row, task, weight, noise)

    for module in ("evaluation", "reading", "step", "task_end"):
        monkeypatch.setattr(f"gradalign_cli.{module}.show", watched)
    tune(CONF, "mine", GIVEN)
    assert seen == set(range(6))  # three tasks of two digits
    (folder,) = (tmp_path / "tuned" / "runs").iterdir()
    assert len((folder / "accuracy.csv").read_text().splitlines()[0].split(",")) == 2 + 3
    search = f"hydra.searchpath=[file://{tmp_path / 'tuned'}]"
    config, groups = composed(CONF, ["+experiment=mine", search])
    expected, _ = composed(CONF, GIVEN)
    assert config["replicas"] == {"seed": [0, 1], "lr": 0.1}
    assert config["benchmark"] == expected["benchmark"] | {"skip_tasks": 3}
    assert {name: config[name] for name in ("method", "model", "buffer")} == {
        name: expected[name] for name in ("method", "model", "buffer")
    }
    assert groups["method"] == "agem"


@pytest.mark.parametrize("order", ["fixed", "drawn"])
def test_whatever_the_other_tasks_hold_the_choice_is_the_same(order, tmp_path, monkeypatch):
    """The first three tasks are those that the experiment leaves out, for every seed."""
    monkeypatch.chdir(tmp_path)
    given = [*GIVEN, f"benchmark.class_order={order}", "benchmark.scenario=class"]
    tune(CONF, "clean", given)
    load, kept = configuration.load, []
    config, _ = composed(CONF, ["+experiment=clean", f"hydra.searchpath=[file://{tmp_path}/tuned]"])
    dataset = load("digits", None)
    benchmark = config["benchmark"]
    benchmark = call_target("benchmark", OmegaConf.create(benchmark), dataset=dataset)
    for seed in (0, 1):
        stream = benchmark.make_stream(seed)
        kept += [set(dataset.y[torch.cat(stream.train_rows + stream.test_rows)].tolist())]
    assert kept == [set(range(6, 10))] * 2  # what the experiment goes on with

    def poisoned(name, folder):
        other = np.isin(dataset.y, [6, 7, 8, 9])
        return dataset._replace(x=np.where(other[:, None, None, None], 255 - dataset.x, dataset.x))

    monkeypatch.setattr(configuration, "load", poisoned)
    tune(CONF, "poisoned", given)
    told = [
        json.loads((tmp_path / f"tuned/runs/{name}/metrics.json").read_text())["replicas"]
        for name in ("clean", "poisoned")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "`replicas` must list what to choose of, as in: gradalign tune mine"),
        (["replicas.seed=[0,1]"], "`replicas` must list what to choose of"),
        (["+experiment=nothing", "replicas.lr=[0.1,0.2]"], "Could not find 'experiment/nothing'"),
        (
            ["benchmark.classes_per_task=5", "replicas.lr=[0.1,0.2]"],
            "`benchmark` must be one of more than 3 tasks, found 2",
        ),
    ],
)
def test_what_cannot_be_tuned_is_told_before_training(given, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        tune(CONF, "mine", given)
    assert not list(tmp_path.iterdir())


def test_without_anything_to_tune_the_command_says_what_to_type(tmp_path):
    ran = gradalign("tune", "mine", cwd=tmp_path)
    assert ran.returncode == 2
    assert "'replicas.lr=[0.03,0.1]'" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_an_experiment_of_other_groups_leaves_nothing_of_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "gradalign_cli.train.train",
        lambda config, folder, console: {"replicas": [{"seed": 0, "lr": 0.5, "ACC": 1.0}]},
    )
    monkeypatch.setattr("gradalign_cli.tables.tune.check", lambda config: None)  # needs no data
    given = ["benchmark=permuted_mnist", "buffer=reservoir", "method=agem", "objective=der"]
    tune(CONF, "mine", given)
    search = f"hydra.searchpath=[file://{tmp_path / 'tuned'}]"
    config, _ = composed(CONF, ["+experiment=mine", search])
    expected, _ = composed(CONF, given)
    for name in ("benchmark", "buffer", "method", "objective"):
        assert config[name].keys() == expected[name].keys()
    assert OmegaConf.load(tmp_path / "tuned/experiment/mine.yaml").replicas.lr == 0.5


def test_a_name_that_is_no_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="`NAME` must be letters, digits and underscores"):
        tune(CONF, "../mine", GIVEN)


def test_five_datasets_that_are_too_few_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["benchmark=five_datasets", f"data_dir={tmp_path}", "replicas.lr=[0.03,0.1]"]
    with pytest.raises(UserError, match=r"`benchmark.datasets` needs two of"):
        tune(CONF, "mine", given)
    x, y = np.zeros((40, 1, 28, 28), np.uint8), np.arange(40) % 10
    monkeypatch.setattr(configuration, "present", lambda names, folder: list(names[1:4:2]))
    monkeypatch.setattr(configuration, "load", lambda name, _: Dataset(name, x, y, 20, 10, None))
    with (
        pytest.warns(UserWarning, match="going on with 2 tasks"),
        pytest.raises(UserError, match="`benchmark` must be one of more than 3 tasks, found 2"),
    ):
        tune(CONF, "mine", given)
