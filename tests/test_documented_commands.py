"""Every command and every block of code that README and docs show runs, in a shortened form."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from gradalign_cli.cli import main
from gradalign_cli.data import dataset

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = ["quick=true", "benchmark.samples_per_task=20"]
SHORTER = {
    "train": SMALL,
    "compare": [*SMALL, "--seeds", "1"],
    "tune": SMALL,
    "reproduce": ["--budget", "0"],
}  # by verb
IMAGES = {"mnist": (10, (28, 28)), "fashion_mnist": (10, (28, 28)), "cifar100": (100, (32, 32, 3))}
RUN_FOLDER = "outputs/documented_run"  # takes the place of RUN_DIR


def blocks(text: str) -> list[tuple[str, str]]:
    """The language, empty where there is none, and the text of each block of code of a page."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}.*\n)+", rest, re.MULTILINE)
    return fenced + [("", re.sub("^ {4}", "", block, flags=re.MULTILINE)) for block in indented]


def documented_commands() -> list[str]:
    """All commands of gradalign in blocks of code, each once."""
    lines = [
        line
        for page in PAGES
        for language, block in blocks(page.read_text())
        if language in ("", "sh")
        for line in block.splitlines()
        if line.startswith("gradalign ")
    ]
    return list(dict.fromkeys(line.partition(" # ")[0].strip() for line in lines))


def shortened(command: str) -> list[str]:
    """The arguments of a command, with what makes it short."""
    verb, *words = shlex.split(command.replace("RUN_DIR", RUN_FOLDER))[1:]
    shows = {"--help", "--cfg"} & set(words)
    return [verb, *words, *([] if shows else SHORTER.get(verb, []))]


@pytest.fixture(scope="module")
def small_datasets(tmp_path_factory):
    """A data folder with small datasets of the published forms."""
    folder, source = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        for name, (classes, shape) in IMAGES.items():
            labels = np.arange(classes * 40) % classes
            images = source.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
            arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
            np.savez(folder / f"{name}.npz", **arrays)
            size = dataset.PublishedSize(shape, len(labels), len(labels), classes)
            patch.setitem(dataset.PUBLISHED_SIZES, name, size)
        patch.setenv("GRADALIGN_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def working_folder(small_datasets, tmp_path_factory):
    """A folder with what the commands name: the user's method of README, and a finished run."""
    folder = tmp_path_factory.mktemp("work")
    readme = [block for _, block in blocks((ROOT / "README.md").read_text())]
    (code,) = [block for block in readme if "def half" in block]
    (config,) = [block for block in readme if "_target_: " in block]
    (folder / "mine" / "method").mkdir(parents=True)
    (folder / "half.py").write_text(code)
    (folder / "mine" / "method" / "half.yaml").write_text(
        config.replace("gradalign_cli.methods.half", "half")
    )
    run = f"hydra.run.dir={folder / RUN_FOLDER}"
    assert main(["train", run, *SMALL]) == 0
    return folder


@pytest.mark.parametrize("command", documented_commands())
def test_the_command_runs(command, working_folder, monkeypatch):
    monkeypatch.chdir(working_folder)
    assert main(shortened(command)) == 0


def test_there_are_commands_to_try():
    assert len(documented_commands()) > 20


def test_every_block_of_python_runs_as_it_stands(working_folder, monkeypatch):
    monkeypatch.chdir(working_folder)
    values = {"gradient": torch.tensor([1.0, -1.0]), "memory_gradient": torch.tensor([-1.0, 0.0])}
    count = 0
    for page in PAGES:
        for language, block in blocks(page.read_text()):
            if language == "python":
                names = {**values, "RUN_DIR": working_folder / RUN_FOLDER}
                exec(compile(block, str(page), "exec"), names)
                count += 1
                if "def last_row" in block:
                    accuracies = names["last_row"](names["RUN_DIR"])
                    mean = names["mean_accuracy"](names["RUN_DIR"])
                    assert sum(accuracies) / len(accuracies) == pytest.approx(mean, abs=1e-5)
    assert count > 3
