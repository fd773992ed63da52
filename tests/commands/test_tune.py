import json
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.cli import main
from gradalign_cli.commands.tune import tune, tuning_result
from gradalign_cli.composition import datasets
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError
from gradalign_cli.training import evaluation
from tests.commands.test_train import gradalign

OVERRIDES = ["method=agem", "model.widths=[8]", "replicas.lr=[0.001,0.1]", "replicas.seed=[0,1]"]


def test_the_best_mean_over_seeds_wins():
    def replica(seed, lr, accuracy):
        return {"seed": seed, "lr": lr, "ACC": accuracy, "min_ACC": seed / 7, "LCA10": 0.1}

    replicas = [
        replica(seed=0, lr=0.1, accuracy=0.9),
        replica(seed=1, lr=0.1, accuracy=0.1),
        replica(seed=0, lr=0.2, accuracy=0.6),
        replica(seed=1, lr=0.2, accuracy=0.5),
    ]
    best, mean_accuracy = tuning_result(replicas, ["lr"])
    assert best == {"lr": 0.2}
    assert list(mean_accuracy.values()) == [0.5, 0.55]


def test_tuning_sees_the_first_three_tasks_alone_and_the_experiment_the_others_alone(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    seen_classes = set()
    load_examples = evaluation.load_examples

    def recording_load_examples(benchmark, view, rows, *arguments, **options):
        seen_classes.update(benchmark.labels[rows].flatten().tolist())
        return load_examples(benchmark, view, rows, *arguments, **options)

    modules = [
        name
        for name, module in sys.modules.items()
        if name.startswith("gradalign_cli.") and hasattr(module, "load_examples")
    ]
    assert len(modules) >= 6
    for name in modules:
        monkeypatch.setattr(f"{name}.load_examples", recording_load_examples)
    tune(CONF, "mine", [*OVERRIDES, "overwrite=true"])
    assert seen_classes == set(range(6))  # three tasks of two digits
    (folder,) = (tmp_path / "outputs/tuned" / "runs").iterdir()
    assert len((folder / "accuracy.csv").read_text().splitlines()[0].split(",")) == 2 + 3
    search = f"hydra.searchpath=[file://{tmp_path / 'outputs/tuned'}]"
    config, groups = compose_config(CONF, ["+experiment=mine", search])
    expected = compose_config(CONF, OVERRIDES).settings
    assert config["replicas"] == {"seed": [0, 1], "lr": 0.1}
    assert config["benchmark"] == expected["benchmark"] | {"skip_tasks": 3}
    assert {name: config[name] for name in ("method", "model", "buffer")} == {
        name: expected[name] for name in ("method", "model", "buffer")
    }
    assert groups["method"] == "agem"
    assert not config["overwrite"]  # the experiment replaces no run
    with pytest.raises(UserError, match="tuned/runs/mine holds a finished run; `overwrite=true`"):
        tune(CONF, "mine", OVERRIDES)


@pytest.mark.parametrize("order", ["fixed", "drawn"])
def test_the_choice_does_not_depend_on_the_images_of_the_other_tasks(order, tmp_path, monkeypatch):
    """For every seed, the tasks that are tuned on are those that the experiment leaves out."""
    monkeypatch.chdir(tmp_path)
    overrides = [*OVERRIDES, f"benchmark.class_order={order}", "benchmark.scenario=class"]
    tune(CONF, "clean", overrides)
    load_dataset, experiment_classes = datasets.load_dataset, []
    config = compose_config(
        CONF, ["+experiment=clean", f"hydra.searchpath=[file://{tmp_path}/outputs/tuned]"]
    ).settings
    dataset = load_dataset("digits", None)
    benchmark_config = OmegaConf.create(config["benchmark"])
    benchmark = call_target("benchmark", benchmark_config, dataset=dataset)
    for seed in (0, 1):
        stream = benchmark.make_stream(seed)
        rows = torch.cat(stream.train_rows + stream.test_rows)
        experiment_classes.append(set(dataset.labels[rows].tolist()))
    assert experiment_classes == [set(range(6, 10))] * 2

    def load_with_inverted_images(name, folder):
        inverted = np.isin(dataset.labels, [6, 7, 8, 9])[:, None, None, None]
        images = np.where(inverted, 255 - dataset.images, dataset.images)
        return dataset._replace(images=images)

    monkeypatch.setattr(datasets, "load_dataset", load_with_inverted_images)
    tune(CONF, "inverted", overrides)
    clean, inverted = (
        json.loads((tmp_path / f"outputs/tuned/runs/{name}/metrics.json").read_text())["replicas"]
        for name in ("clean", "inverted")
    )
    assert clean == inverted


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "`replicas` must list what to choose of, as in: gradalign tune mine"),
        (["replicas.seed=[0,1]"], "`replicas` must list what to choose of"),
        (["+experiment=nothing", "replicas.lr=[0.1,0.2]"], "`experiment` has no option 'nothing'"),
        (
            ["benchmark.classes_per_task=5", "replicas.lr=[0.1,0.2]"],
            "`benchmark` must be one of more than 3 tasks, found 2",
        ),
    ],
)
def test_a_config_that_cannot_be_tuned_is_refused_before_training(
    overrides, sentence, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        tune(CONF, "mine", overrides)
    assert not list(tmp_path.iterdir())


def test_without_anything_to_tune_the_command_gives_an_example(tmp_path):
    process = gradalign("tune", "mine", cwd=tmp_path)
    assert process.returncode == 2
    assert "'replicas.lr=[0.03,0.1]'" in process.stderr
    assert process.stderr.count("\n") == 1


def test_an_experiment_has_no_entries_of_groups_that_were_overridden(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "gradalign_cli.commands.tune.train",
        lambda config, folder, console, **_: {"replicas": [{"seed": 0, "lr": 0.5, "ACC": 1.0}]},
    )
    # the benchmark would need its data
    monkeypatch.setattr(
        "gradalign_cli.commands.tune.check_listed_values_and_task_count", lambda config: None
    )
    overrides = ["benchmark=permuted_mnist", "buffer=reservoir", "method=agem", "objective=der"]
    tune(CONF, "mine", overrides)
    search = f"hydra.searchpath=[file://{tmp_path / 'outputs/tuned'}]"
    config = compose_config(CONF, ["+experiment=mine", search]).settings
    expected = compose_config(CONF, overrides).settings
    for name in ("benchmark", "buffer", "method", "objective"):
        assert config[name].keys() == expected[name].keys()
    assert OmegaConf.load(tmp_path / "outputs/tuned/experiment/mine.yaml").replicas.lr == 0.5


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("../mine", [], "`NAME` must be letters, digits and underscores"),
        ("split_mnist", [], "`NAME` must be new, 'split_mnist' is an experiment that"),
        ("mine", ["benchmark.first_tasks=2"], "`benchmark.first_tasks` cannot be given"),
        ("mine", ["++benchmark.skip_tasks=1"], "`benchmark.skip_tasks` cannot be given"),
    ],
)
def test_a_name_or_a_choice_of_tasks_that_tuning_cannot_take_is_refused(
    name, overrides, sentence, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        tune(CONF, name, [*OVERRIDES, *overrides])
    assert not list(tmp_path.iterdir())


def test_a_tuning_that_is_stopped_says_that_nothing_is_chosen(tmp_path, monkeypatch, capsys):
    def stopped_train(config, folder, console, **_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradalign_cli.commands.tune.train", stopped_train)
    assert main(["tune", "mine", *OVERRIDES]) == 130
    sentence = "gradalign: stopped by Ctrl-C; nothing is chosen; the same command starts again\n"
    assert capsys.readouterr().err == sentence


def test_five_datasets_that_are_too_few_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["benchmark=five_datasets", f"data_dir={tmp_path}", "replicas.lr=[0.03,0.1]"]
    with pytest.raises(UserError, match=r"`benchmark.datasets` needs two of"):
        tune(CONF, "mine", overrides)
    images, labels = np.zeros((40, 1, 28, 28), np.uint8), np.arange(40) % 10
    monkeypatch.setattr(datasets, "available_datasets", lambda names, folder: list(names[1:4:2]))
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, _: Dataset(name, images, labels, 20, 10, None)
    )
    with (
        pytest.warns(UserWarning, match="going on with 2 tasks"),
        pytest.raises(UserError, match="`benchmark` must be one of more than 3 tasks, found 2"),
    ):
        tune(CONF, "mine", overrides)
