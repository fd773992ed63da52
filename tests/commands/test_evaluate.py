import csv
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import gradalign_cli
from gradalign_cli.cli import main
from gradalign_cli.commands.evaluate import evaluate
from gradalign_cli.composition.finished_run import read_run_config
from gradalign_cli.data import load_dataset
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.results.network_file import NETWORK_FILE

SMALL = ["benchmark.samples_per_task=20", "benchmark.first_tasks=3", "metrics.lca_batches=0"]
RUNS = {
    "split": ["replicas.seed=[0,1]"],
    "rotated": ["benchmark=rotated_mnist", "benchmark.dataset=digits"],
    "permuted": ["benchmark=permuted_mnist", "benchmark.dataset=digits", "benchmark.centred=true"],
    "class": ["benchmark.scenario=class", "buffer=reservoir", "method=er"],
    "by_task": ["method=trgp"],  # which tests each task with parameters of its own
    "module": ["model=module", "model.module=networks_of_mine.net", "plugins=[networks_of_mine]"],
}
MINE = """
import torch
from torch import nn
def net():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 10))
    net.register_buffer("mask", torch.tensor([0, -torch.inf]))
    return net
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of each of `RUNS`."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "networks_of_mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name, overrides in RUNS.items():
            assert main(["train", *SMALL, *overrides, f"hydra.run.dir={folder / name}"]) == 0
        yield folder


def plugins_of(name):
    return [text for text in RUNS[name] if text.startswith("plugins")]


def last_rows(folder):
    """The last row of each replica in accuracy.csv."""
    rows = list(csv.DictReader((folder / "accuracy.csv").read_text().splitlines()))
    last = [row for row in rows if row["after_task"] == "3"]
    return np.array([[float(row[f"task_{t}"]) for t in (1, 2, 3)] for row in last])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_tested_again_has_its_last_row(name, runs, capsys):
    accuracy = evaluate(runs / name, read_run_config(runs / name, plugins_of(name)))
    np.testing.assert_allclose(accuracy, last_rows(runs / name), atol=1e-6)
    assert main(["evaluate", str(runs / name), *plugins_of(name)]) == 0
    assert f"{100 * accuracy[0, 1]:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize("name", RUNS)
def test_a_loaded_network_answers_raw_images_as_the_run_tested_them(name, runs):
    dataset = load_dataset("digits", None)
    accuracy = []
    plugins = ["networks_of_mine"] * (name == "module")
    network = gradalign_cli.load(runs / name, plugins=plugins)
    config = read_run_config(runs / name, plugins_of(name))
    from gradalign_cli.composition.parts import build_run

    _, (replica, *_), _ = build_run(config, CPU)
    for task, rows in enumerate(replica.stream.test_rows):
        x = torch.from_numpy(dataset.images)[rows]
        target = network.logit_of_class[torch.from_numpy(dataset.labels)[rows]]
        logits = network(x, task)
        torch.testing.assert_close(network(x / 255, task), logits)
        accuracy.append(float((logits.argmax(1) == target).double().mean()))
    np.testing.assert_allclose(accuracy, last_rows(runs / name)[0], atol=1e-6)


def test_a_task_sees_the_logits_that_its_test_saw(runs):
    x = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    by_task, by_class = (gradalign_cli.load(runs / name) for name in ("split", "class"))
    assert by_task(x, 1).isfinite().sum(1).tolist() == [2, 2]
    assert by_class(x, 1).isfinite().sum(1).tolist() == [10, 10]
    other = gradalign_cli.load(runs / "split", replica=1)
    assert not torch.equal(other.params, by_task.params)


def test_a_network_takes_images_and_tasks_of_its_benchmark_alone(runs):
    network = gradalign_cli.load(runs / "split")
    for task in (3, -1, True, "0", 1.0):
        with pytest.raises(UserError, match=r"`task` must be in 0\.\.2, found"):
            network(torch.zeros(1, 1, 8, 8), task)
    with pytest.raises(UserError, match="`x` must be images of 64 pixels"):
        network(torch.zeros(1, 1, 9, 8), 0)
    for replica in (2, -1, True, "0", None, 1.5):
        with pytest.raises(UserError, match=r"`replica` must be in 0\.\.1, found"):
            gradalign_cli.load(runs / "split", replica=replica)
    for plugins in ("nets", [5], 5):
        with pytest.raises(UserError, match="`plugins` must be a list of names of modules"):
            gradalign_cli.load(runs / "split", plugins=plugins)


def test_a_network_takes_pixels_between_0_and_1_of_any_float_type(runs):
    network = gradalign_cli.load(runs / "split")
    x = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.float16, 0.1)):
        logits = network((x / 255).to(dtype), 0)
        torch.testing.assert_close(logits, network(x, 0), rtol=tolerance, atol=tolerance)
    assert network(x[:0], 0).shape == (0, 10)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros((1, 1, 8, 8)), "`x` must be a tensor of images, found 'ndarray'"),
        (torch.zeros(1, 1, 8, 8).long(), "`x` must be uint8, or floats in .*, found torch.int64"),
        (torch.zeros(1, 1, 8, 8).bool(), "`x` must be uint8, or floats in .*, found torch.bool"),
        (torch.zeros(64), r"`x` must be images of 64 pixels, .*, found \(64,\)"),
        (torch.tensor(1.0), r"`x` must be images of 64 pixels, .*, found \(\)"),
        (torch.zeros(1, 8, 8, 1), r"`x` must be images of 64 pixels, \[n, 1, 8, 8\] or \[n, 64\]"),
        (torch.full((1, 1, 8, 8), 255.0), r"`x` must be uint8, or floats in \[0, 1\], found 255"),
        (torch.full((1, 1, 8, 8), -0.1), r"`x` must be uint8, or floats in \[0, 1\], found -0.1"),
        (torch.full((1, 1, 8, 8), torch.nan), r"`x` must be uint8, or .*\[0, 1\], found nan"),
    ],
)
def test_images_that_the_benchmark_cannot_hold_are_refused(x, sentence, runs):
    with pytest.raises(UserError, match=sentence):
        gradalign_cli.load(runs / "split")(x, 0)


def test_a_run_keeps_no_network_where_save_is_none(runs, tmp_path):
    assert main(["train", *SMALL, "save=none", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert not (tmp_path / "run" / NETWORK_FILE).exists()
    with pytest.raises(UserError, match=r"with `save=network`, found no network\.safetensors"):
        gradalign_cli.load(tmp_path / "run")


def test_other_data_are_standardised_as_in_training_and_other_sizes_refused(
    runs, tmp_path, monkeypatch, capsys
):
    dataset = load_dataset("digits", None)
    images, labels, count = dataset.images, dataset.labels, dataset.train_count
    split = {"y_train": labels[:count], "y_test": labels[count:]}
    np.savez(tmp_path / "dark.npz", x_train=images[:count] * 0, x_test=images[count:], **split)
    wide = np.repeat(images, 2, 3)
    np.savez(tmp_path / "wide.npz", x_train=wide[:count], x_test=wide[count:], **split)
    command = ["evaluate", str(runs / "permuted"), f"data_dir={tmp_path}"]
    config = read_run_config(runs / "permuted", ["benchmark.dataset=dark", command[2]])
    accuracy = evaluate(runs / "permuted", config)  # the tests of `dark` are those of the run
    np.testing.assert_allclose(accuracy, last_rows(runs / "permuted"), atol=1e-6)
    assert main([*command, "benchmark.dataset=wide"]) == 2
    assert "`benchmark` must have the sizes" in capsys.readouterr().err
    assert main([*command, "method=gem"]) == 2
    assert "`OVERRIDE` must be a value of benchmark.dataset" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["benchmark.dataset=[digits]", "~benchmark.dataset"])
def test_a_dataset_that_is_no_name_is_refused(override, runs, capsys):
    assert main(["evaluate", str(runs / "split"), override]) == 2
    assert "`benchmark.dataset` must be the name of a dataset, found" in capsys.readouterr().err


def test_plugins_of_a_run_that_others_made_are_not_imported(runs):
    config = (runs / "module/config.yaml").read_text()
    assert "plugins:\n- networks_of_mine" in config
    with pytest.raises(UserError, match="named on the command line"):
        gradalign_cli.load(runs / "module")


def change(folder: Path, source: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of a run with other tensors, or without those that are None."""
    folder.mkdir()
    (folder / "config.yaml").write_text((source / "config.yaml").read_text())
    content = (source / NETWORK_FILE).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    changed = safetensors.torch.load(content) | tensors
    present = {name: tensor for name, tensor in changed.items() if tensor is not None}
    safetensors.torch.save_file(present, folder / NETWORK_FILE, metadata)
    return folder


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"params": torch.zeros(2, 1, 7)}, "whose `params` has the shape"),
        ({"params": torch.zeros(2, 1, 17610, dtype=torch.float64)}, "of torch.float32 in `params`"),
        ({"params": None}, "a file with `params`"),
        ({"statistics": torch.zeros(2, 5)}, "whose `statistics` has the shape"),
        ({"more": torch.zeros(1)}, "without other tensors, found 'more'"),
        ({"logit_of_class": torch.full((2, 10), 10)}, r"`logit_of_class` is in 0\.\.9"),
        ({"visible_logit_mask": torch.zeros(2, 9, 10, dtype=torch.bool)}, "`visible_logit_mask`"),
        ({"params": torch.full((2, 1, 17610), torch.nan)}, "whose `params` is finite"),
        ({"pixel_std": torch.zeros(64)}, "whose deviations in `pixel_std` are positive"),
        (
            {"task_mean_std": torch.zeros(3, 2, 1)},
            "whose deviations in `task_mean_std` are positive",
        ),
        ({"logit_of_class": torch.zeros(2, 0, dtype=torch.int64)}, "with classes in `logit_of_cla"),
        (
            {"visible_logit_mask": torch.zeros(2, 3, 10, dtype=torch.bool)},
            "`visible_logit_mask` leaves every task a logit",
        ),
    ],
)
def test_a_file_that_does_not_fit_its_config_is_refused_by_name(tensors, sentence, runs, tmp_path):
    folder = change(tmp_path / "changed", runs / "split", **tensors)
    with pytest.raises(UserError, match=sentence):
        gradalign_cli.load(folder)


def test_running_statistics_that_are_not_finite_are_refused_where_the_first_ones_are(
    runs, tmp_path
):
    statistics = safetensors.torch.load_file(runs / "module" / NETWORK_FILE)["statistics"]
    assert statistics.isinf().any()  # the mask
    folder = change(tmp_path / "changed", runs / "module", statistics=statistics * torch.nan)
    with pytest.raises(UserError, match="whose `statistics` is finite"):
        gradalign_cli.load(folder, plugins=["networks_of_mine"])


def test_a_file_with_fewer_classes_than_the_dataset_is_not_tested(runs, tmp_path, capsys):
    fewer = torch.arange(9).expand(2, 9).contiguous()
    folder = change(tmp_path / "changed", runs / "split", logit_of_class=fewer)
    assert main(["evaluate", str(folder)]) == 2
    assert "with the 10 classes of the dataset in `logit_of_class`" in capsys.readouterr().err


def test_a_file_that_is_no_network_is_refused(runs, tmp_path):
    folder = change(tmp_path / "changed", runs / "split")
    gradalign_cli.load(folder)
    for content in (b"", b"no tensors at all", struct.pack("<Q", 2**40) + b"{}"):
        (folder / NETWORK_FILE).write_bytes(content)
        with pytest.raises(UserError, match=r"must be a network\.safetensors of gradalign"):
            gradalign_cli.load(folder)
    safetensors.torch.save_file({"params": torch.zeros(1)}, folder / NETWORK_FILE)
    with pytest.raises(UserError, match=r"must be a network\.safetensors of gradalign"):
        gradalign_cli.load(folder)
