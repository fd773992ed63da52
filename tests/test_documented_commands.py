"""Every command and every block of code that README and docs show runs, in a shortened form."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradalign_cli.cli import main
from gradalign_cli.data import dataset

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = ["quick=true", "benchmark.samples_per_task=8"]
TWO_TASKS = "benchmark.first_tasks=2"  # which tune chooses itself
SHORTER = {
    "train": [*SMALL, TWO_TASKS],
    "compare": [*SMALL, TWO_TASKS, "--seeds", "1"],
    "tune": SMALL,
    "reproduce": ["--budget", "0"],
}  # by verb
IMAGES = {
    "mnist": (10, (28, 28)),
    "fashion_mnist": (10, (28, 28)),
    "cifar10": (10, (32, 32, 3)),
    "cifar100": (100, (32, 32, 3)),
}
RUN_FOLDER, STOPPED_RUN = "outputs/documented_run", "outputs/stopped_run"  # for RUN_DIR


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
    folder = STOPPED_RUN if command.startswith("gradalign resume") else RUN_FOLDER
    verb, *words = shlex.split(re.sub(r"(OTHER_)?(RUN|SWEEP)_DIR", folder, command))[1:]
    shows = {"--help", "--cfg"} & set(words)
    return [verb, *words, *([] if shows else SHORTER.get(verb, []))]


@pytest.fixture(scope="module")
def small_datasets(tmp_path_factory):
    """A data folder with small datasets of the published forms."""
    folder, source = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        for name, (classes, shape) in IMAGES.items():
            labels = np.arange(classes * (4 if name == "cifar10" else 40)) % classes
            images = source.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
            arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
            np.savez(folder / f"{name}.npz", **arrays)
            size = dataset.PublishedSize(shape, len(labels), len(labels), classes)
            patch.setitem(dataset.PUBLISHED_SIZES, name, size)
        patch.setenv("GRADALIGN_DATA", str(folder))
        yield folder


def block_of(page, words):
    """The block of code of a page that has these words in it."""
    (block,) = [block for _, block in blocks((ROOT / page).read_text()) if words in block]
    return block


@pytest.fixture(scope="module")
def working_folder(small_datasets, tmp_path_factory):
    """A folder with what the commands name: the parts and datasets that the pages make, images, a
    finished run and one that was stopped before its end."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "mine" / "method").mkdir(parents=True)
    (folder / "half.py").write_text(block_of("docs/your-method.md", "def half"))
    yaml = block_of("docs/your-method.md", "_target_: ")
    (folder / "mine" / "method" / "half.yaml").write_text(yaml)
    (folder / "nets.py").write_text(block_of("docs/networks.md", "def cifar_resnet18"))
    arrays = dict(np.load(Path(dataset.__file__).parent / "digits.npz"))
    np.savez(small_datasets / "digits2.npz", **{name: arrays[name] for name in dataset.KEYS})
    for number in range(8):
        image = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 12, 3), 30 * number, np.uint8)).save(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(block_of("docs/data.md", "birds.npz"), {})
        assert main(["train", f"hydra.run.dir={RUN_FOLDER}", *SMALL]) == 0
        patch.setattr("gradalign_cli.results.run_folder.RunFolder.finish", stop)
        assert main(["train", f"hydra.run.dir={STOPPED_RUN}", *SMALL]) == 130
    return folder


def stop(*_):
    """What a user does who presses Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", documented_commands())
def test_the_command_runs(command, working_folder, monkeypatch):
    if "timm" in command:
        pytest.importorskip("timm")
    monkeypatch.chdir(working_folder)
    assert main(shortened(command)) == 0


def test_there_are_commands_to_try():
    assert len(documented_commands()) > 40


def test_every_block_of_python_runs_as_it_stands(working_folder, monkeypatch):
    monkeypatch.chdir(working_folder)
    run_folder, count = working_folder / RUN_FOLDER, 0
    for page in PAGES:
        for language, block in blocks(page.read_text()):
            if (
                language == "python" and page.name != "library.md"
            ):  # which tests/test_library.py runs
                names = {"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}
                exec(compile(block.replace("RUN_DIR", str(run_folder)), str(page), "exec"), names)
                count += 1
                if "def last_row" in block:
                    accuracies, mean = names["last_row"](run_folder), names["mean_accuracy"]
                    expected = sum(accuracies) / len(accuracies)
                    assert mean(run_folder) == pytest.approx(expected, abs=1e-5)
                if "load(" in block:
                    assert names["logits"].shape[0] == 2
    assert count > 5
