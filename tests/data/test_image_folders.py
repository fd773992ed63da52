"""Folders of image files in the layouts that they are published in, in small."""

import os

import numpy as np
import pytest
from PIL import Image

from gradalign_cli.cli import main
from gradalign_cli.data import load_dataset
from gradalign_cli.data.dataset import PUBLISHED_SIZES, PublishedSize
from gradalign_cli.data.image_folders import MOST_PIXELS, class_folder_files, read_image
from gradalign_cli.data.sources import dataset_statuses
from gradalign_cli.errors import UserError


def write_image(path, colour, size=(9, 7)):
    """An image of one colour, wider than it is high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 255 - colour)).save(path)


def refusal(capsys, *arguments):
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def small_sizes(monkeypatch):
    """Published sizes of the small folders of these tests."""
    monkeypatch.setitem(PUBLISHED_SIZES, "tiny_imagenet", PublishedSize((64, 64, 3), 4, 2, 2))
    monkeypatch.setitem(PUBLISHED_SIZES, "cub200", PublishedSize((64, 64, 3), 3, 2, 2))


@pytest.fixture
def birds(tmp_path, small_sizes):
    folder = tmp_path / "CUB_200_2011"
    names = [f"00{1 + n // 3}.Bird/Bird_{n}.jpg" for n in range(5)]
    for number, name in enumerate(names):
        write_image(folder / "images" / name, 50 * number)
    lists = {
        "images": names,
        "image_class_labels": [1 + n // 3 for n in range(5)],
        "train_test_split": [1, 0, 1, 1, 0],
    }
    for name, values in lists.items():
        text = "".join(f"{n + 1} {value}\n" for n, value in enumerate(values))
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_tiny_imagenet_is_read_from_its_own_layout_once(tmp_path, small_sizes):
    folder = tmp_path / "tiny-imagenet-200"
    for wnid, colour in (("n02", 200), ("n01", 100)):
        for number in range(2):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", colour)
        write_image(folder / "val" / "images" / f"val_{wnid}.JPEG", colour)
    lines = "val_n02.JPEG\tn02\t0\t0\t62\t62\nval_n01.JPEG\tn01\t0\t0\t62\t62\n"
    (folder / "val" / "val_annotations.txt").write_text(lines)
    (row,) = [s for s in dataset_statuses(str(tmp_path)) if s.name == "tiny_imagenet"]
    assert "`gradalign data prepare tiny_imagenet` reads it once" in row.location_or_problem
    dataset = load_dataset("tiny_imagenet", str(tmp_path))
    assert dataset.images.shape == (6, 3, 64, 64)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 0]
    np.testing.assert_allclose(
        dataset.images[:, 0].mean((1, 2)), 100 + 100 * dataset.labels, atol=2
    )
    (folder / "train").rename(tmp_path / "gone")
    assert np.array_equal(load_dataset("tiny_imagenet", str(tmp_path)).images, dataset.images)


def test_birds_are_read_by_their_lists(birds, tmp_path):
    dataset = load_dataset("cub200", str(tmp_path))
    assert dataset.train_count == 3
    assert dataset.labels.tolist() == [0, 0, 1, 0, 1]
    np.testing.assert_allclose(dataset.images[:, 0].mean((1, 2)), [0, 100, 150, 50, 200], atol=2)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("images", "1 ../../secret.jpg\n", "must be of the same images"),
        ("images", "1\n", "must have 2 words in a line"),
        ("train_test_split", "".join(f"{n} 2\n" for n in range(1, 6)), "0 or 1 for its part"),
        ("image_class_labels", "".join(f"{n} x\n" for n in range(1, 6)), "must have a class"),
    ],
)
def test_a_list_of_birds_that_is_wrong_is_refused(birds, tmp_path, name, text, message):
    (birds / f"{name}.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        load_dataset("cub200", str(tmp_path))
    assert not (tmp_path / "cub200.npz").exists()


def test_a_list_names_no_file_outside_of_its_folder(birds, tmp_path):
    (birds / "images.txt").write_text("".join(f"{n} ../../x.jpg\n" for n in range(1, 6)))
    with pytest.raises(UserError, match=r"must name files in it, found '\.\./\.\./x\.jpg'"):
        load_dataset("cub200", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("tiny_imagenet", "unpack it in the data folder, as tiny-imagenet-200"),
        ("cub200", "unpack it in the data folder, as CUB_200_2011"),
    ],
)
def test_what_is_not_there_is_said_with_what_to_do(name, advice, tmp_path):
    with pytest.raises(UserError, match=f"{name} was not found in .*; {advice}"):
        load_dataset(name, str(tmp_path))


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_a_folder_of_classes_is_imported_resized_once_and_trained_on(
    test_name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 4), (test_name, 2)):
        for label, name in enumerate(("ant", "bee", "cat", "dog")):
            for number in range(count):
                write_image(tmp_path / "photos" / part / name / f"{number}.png", 60 * label)
            (tmp_path / "photos" / part / name / "notes.txt").write_text("no image")
    assert main(["data", "import", "insects", "photos", "--size", "6"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'data' / 'insects.npz'}\n"
    dataset = load_dataset("insects")
    assert dataset.images.shape == (24, 3, 6, 6)
    assert dataset.train_count == 16
    assert np.array_equal(dataset.images[:, 0, 0, 0], 60 * dataset.labels)
    run = ("benchmark.dataset=insects", "model.widths=[3]", "hydra.run.dir=run")
    assert main(["train", *run]) == 0
    capsys.readouterr()
    error = refusal(capsys, "data", "import", "insects", "photos")
    assert "insects.npz exists, and is not replaced" in error


def test_without_a_training_folder_every_fifth_image_is_for_testing(tmp_path):
    for number in range(10):
        write_image(tmp_path / "only" / f"{number}.png", 0)
    files = class_folder_files(tmp_path)
    assert [file.path.stem for file in files.test] == ["4", "9"]
    assert len(files.train) == 8


def test_a_folder_or_a_name_that_cannot_be_imported_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "train" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "0.png").write_text("no image")
    for arguments, message in (
        (("x", "nowhere"), "nowhere must be a folder of images"),
        (("x", "empty"), "must hold a folder of images for each class"),
        (("x", "half"), "must hold `test` or `val` beside `train`"),
        (("x", "bad", "--size", "0"), "`--size` must be 1 to 1024 pixels, found 0"),
        (("mnist", "bad"), "`NAME` must be letters"),
        (("../x", "bad"), "`NAME` must be letters"),
    ):
        assert message in refusal(capsys, "data", "import", *arguments)
    write_image(tmp_path / "bad" / "a" / "4.png", 0)
    for number in (1, 2, 3):
        write_image(tmp_path / "bad" / "a" / f"{number}.png", 0)
    error = refusal(capsys, "data", "import", "x", "bad")
    assert "0.png is no image that can be read: it is no JPEG, PNG, BMP, PPM, GIF or WEBP" in error
    assert not (tmp_path / "data").exists()


def test_an_image_that_would_fill_memory_and_what_is_no_file_are_refused(tmp_path):
    large = tmp_path / "large.png"
    Image.new("1", (MOST_PIXELS // 1000 + 1, 1000)).save(large)
    with pytest.raises(UserError, match="must have at most 67108864 pixels"):
        read_image(large, 8)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="must be a regular file, found a named pipe"):
        read_image(tmp_path / "pipe.png", 8)


def test_grey_images_have_three_equal_colours(tmp_path):
    Image.new("L", (5, 5), 77).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png", 4) == 77).all()


@pytest.mark.parametrize(
    ("name", "folder", "prefixes"),
    [
        ("kmnist", "KMNIST/raw", ("train", "t10k")),
        ("emnist", "EMNIST/raw", ("emnist-balanced-train", "emnist-balanced-test")),
    ],
)
def test_datasets_like_mnist_are_read_as_torchvision_keeps_them(
    name, folder, prefixes, tmp_path, monkeypatch
):
    monkeypatch.setitem(PUBLISHED_SIZES, name, PublishedSize((2, 3), 4, 2, 2))
    raw = tmp_path / folder
    raw.mkdir(parents=True)
    for prefix, count in zip(prefixes, (4, 2), strict=True):
        pixels, labels = bytes(range(6 * count)), bytes(n % 2 for n in range(count))
        images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4) for n in (count, 2, 3)) + pixels
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + count.to_bytes(4) + labels
        )
    dataset = load_dataset(name, str(tmp_path))
    assert dataset.images[1, 0].tolist() == [[6, 7, 8], [9, 10, 11]]
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0, 1]
