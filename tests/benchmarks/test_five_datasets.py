import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.benchmarks.five_datasets import channel_mean_std, five_datasets, padded_images
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.composition.datasets import config_without_missing_datasets
from gradalign_cli.data import Dataset, available_datasets, load_dataset
from gradalign_cli.errors import UserError


def random_dataset(name, shape, count, seed=0, classes=10):
    """A dataset of random images, two thirds of them to train on."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Dataset(name, images, np.arange(count) % classes, 2 * count // 3, classes, None)


GREY = random_dataset("grey", (1, 28, 28), 60)
COLOUR = random_dataset("colour", (3, 32, 32), 90, seed=1)


def task_examples(benchmark, task, part="train_rows"):
    """All examples of a task as the network sees them."""
    stream = benchmark.make_stream(0)
    rows = getattr(stream, part)[task]
    return load_examples(benchmark, stream.view, rows, torch.tensor([task]))


def test_grey_images_are_repeated_over_the_channels_in_a_frame_of_two_black_pixels():
    images = padded_images([COLOUR, GREY]).numpy()
    assert np.array_equal(images[:90], COLOUR.images)
    assert np.array_equal(images[90:, :, 2:30, 2:30], GREY.images.repeat(3, 1))
    assert int(images[90:].sum()) == 3 * int(GREY.images.sum())


def test_a_task_is_a_dataset_with_its_own_head():
    benchmark = five_datasets([COLOUR, GREY], standardised=False)
    assert (benchmark.tasks, benchmark.classes_per_task, benchmark.outputs) == (2, 10, 20)
    assert benchmark.images.dtype == torch.uint8
    for task, dataset in enumerate((COLOUR, GREY)):
        train, test = dataset.labels[: dataset.train_count], dataset.labels[dataset.train_count :]
        for part, labels in (("train_rows", train), ("test_rows", test)):
            examples = task_examples(benchmark, task, part)
            assert examples.target.tolist() == (labels + 10 * task).tolist()
            logits = examples.visible_logit_mask[0].nonzero()[:, 0].tolist()
            assert logits == list(range(10 * task, 10 * task + 10))
    pixels = task_examples(benchmark, 1).images[:, 2, 2:30, 2:30] * 255
    torch.testing.assert_close(pixels, torch.tensor(GREY.images[:40, 0]).float())


def test_standardised_training_pixels_have_mean_0_and_deviation_1_in_every_channel_of_every_task():
    dark = random_dataset("dark", (1, 9, 32), 30)
    benchmark = five_datasets([COLOUR, GREY, dark], standardised=True)
    for task in range(3):
        pixels = task_examples(benchmark, task).images.double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(pixels.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-6)
        torch.testing.assert_close(pixels.std(1, correction=0), torch.ones(3).double())


def test_examples_of_several_tasks_in_one_batch_are_each_standardised_by_their_own_task():
    benchmark = five_datasets([COLOUR, GREY], standardised=True)
    view = benchmark.make_stream(0).view
    rows, tasks = torch.tensor([3, 95, 4]), torch.tensor([0, 1, 0])
    batch = load_examples(benchmark, view, rows, tasks).images
    for n in range(3):
        single = load_examples(benchmark, view, rows[n : n + 1], tasks[n : n + 1]).images
        assert torch.equal(batch[n : n + 1], single)


def test_skipped_tasks_leave_the_other_tasks_their_heads():
    all_tasks, second_task = (
        five_datasets([COLOUR, GREY], True, skip_tasks=skip_tasks) for skip_tasks in (0, 1)
    )
    assert (second_task.tasks, second_task.outputs, len(second_task.images)) == (1, 20, 60)
    expected, examples = task_examples(all_tasks, 1), task_examples(second_task, 0)
    assert torch.equal(examples.images, expected.images)
    assert torch.equal(examples.target, expected.target)
    assert torch.equal(examples.visible_logit_mask, expected.visible_logit_mask)


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (
            random_dataset("large", (3, 33, 32), 30),
            r"at most 32 x 32 pixels, found \[3, 33, 32\] in large",
        ),
        (random_dataset("two", (2, 32, 32), 30), r"must have 1 or 3 channels .* in two"),
        (
            random_dataset("few", (1, 8, 8), 30, classes=5),
            r"datasets with the same number of classes, found \[10, 5\]",
        ),
    ],
)
def test_a_dataset_that_cannot_be_shown_like_the_others_is_refused(dataset, sentence):
    with pytest.raises(UserError, match=sentence):
        five_datasets([GREY, dataset], standardised=True)


def save_dataset(folder, dataset):
    """Write a dataset to the data folder."""
    count, images = dataset.train_count, dataset.images.transpose(0, 2, 3, 1)
    arrays = {
        "x_train": images[:count],
        "y_train": dataset.labels[:count],
        "x_test": images[count:],
        "y_test": dataset.labels[count:],
    }
    np.savez(folder / f"{dataset.name}.npz", **arrays)


def config_with_datasets(folder, *names):
    """A config whose benchmark has these datasets."""
    return OmegaConf.create({"benchmark": {"datasets": list(names)}, "data_dir": str(folder)})


def test_missing_datasets_are_named_once_and_the_record_will_not_have_them(tmp_path):
    for dataset in (GREY, COLOUR):
        save_dataset(tmp_path, dataset)
    incomplete = config_with_datasets(tmp_path, "colour", "svhn", "grey", "mine")
    with pytest.warns(UserWarning, match=r"with 2 tasks: svhn, mine not found in .*status"):
        config = config_without_missing_datasets(incomplete)
    assert config.benchmark.datasets == ["colour", "grey"]
    complete = config_with_datasets(tmp_path, "grey", "colour")
    assert config_without_missing_datasets(complete) == complete


def test_one_dataset_is_no_sequence(tmp_path):
    save_dataset(tmp_path, GREY)
    with pytest.raises(UserError, match="two of grey, mine or more, found grey in"):
        config_without_missing_datasets(config_with_datasets(tmp_path, "grey", "mine"))
    with pytest.raises(UserError, match="found none in"):
        config_without_missing_datasets(config_with_datasets(tmp_path, "mine", "yours"))
    with pytest.raises(UserError, match=r"`benchmark\.datasets` must be a list of names"):
        config_without_missing_datasets(
            OmegaConf.create({"benchmark": {"datasets": "m"}, "data_dir": "."})
        )


# https://github.com/facebookresearch/Adversarial-Continual-Learning, src/dataloaders
@pytest.mark.parametrize(
    ("name", "mean", "deviation", "place"),
    [
        ("mnist", 0.1, 0.2752, "in the data folder"),
        ("fashion_mnist", 0.2190, 0.3318, "there as Debian's package or as files"),
    ],
)
def test_real_datasets_have_the_mean_and_deviation_that_the_paper_uses(
    name, mean, deviation, place
):
    if not available_datasets([name]):
        pytest.skip(f"{name} is not {place}")
    dataset = load_dataset(name)
    mean_std = channel_mean_std(padded_images([dataset])[: dataset.train_count, :1])
    torch.testing.assert_close(mean_std[:, 0], torch.tensor([mean, deviation]), rtol=0, atol=1e-4)
