import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.benchmarks.five_datasets import five_datasets, mean_and_deviation, padded
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.composition.parts import with_present_datasets
from gradalign_cli.data import Dataset, load, present
from gradalign_cli.errors import UserError


def some(name, shape, count, seed=0, classes=10):
    """A dataset of random images, two thirds of them to train on."""
    x = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Dataset(name, x, np.arange(count) % classes, 2 * count // 3, classes, None)


GREY, COLOUR = some("grey", (1, 28, 28), 60), some("colour", (3, 32, 32), 90, seed=1)


def seen(benchmark, task, part="train"):
    """All examples of a task as the network meets them."""
    stream = benchmark.make_stream(0)
    rows = getattr(stream, part)[task]
    return load_examples(benchmark, stream.view, rows, torch.tensor([task]))


def test_grey_images_are_repeated_over_the_channels_in_a_frame_of_two_black_pixels():
    x = padded([COLOUR, GREY]).numpy()
    assert np.array_equal(x[:90], COLOUR.x)
    assert np.array_equal(x[90:, :, 2:30, 2:30], GREY.x.repeat(3, 1))
    assert int(x[90:].sum()) == 3 * int(GREY.x.sum())


def test_a_task_is_a_dataset_with_a_head_of_its_own():
    benchmark = five_datasets([COLOUR, GREY], standardised=False)
    assert (benchmark.tasks, benchmark.classes_per_task, benchmark.outputs) == (2, 10, 20)
    assert benchmark.images.dtype == torch.uint8
    for task, dataset in enumerate((COLOUR, GREY)):
        n = dataset.n_train
        for part, y in (("train", dataset.y[:n]), ("test", dataset.y[n:])):
            examples = seen(benchmark, task, part)
            assert examples.target.tolist() == (y + 10 * task).tolist()
            own = examples.visible_logits[0].nonzero()[:, 0].tolist()
            assert own == list(range(10 * task, 10 * task + 10))
    shown = seen(benchmark, 1).images
    torch.testing.assert_close(shown[:, 2, 2:30, 2:30] * 255, torch.tensor(GREY.x[:40, 0]).float())


def test_standardised_training_pixels_have_mean_0_and_deviation_1_in_every_channel_of_every_task():
    benchmark = five_datasets([COLOUR, GREY, some("dark", (1, 9, 32), 30)], standardised=True)
    for task in range(3):
        x = seen(benchmark, task).images.double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(x.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-6)
        torch.testing.assert_close(x.std(1, correction=0), torch.ones(3).double())


def test_tasks_met_side_by_side_are_each_standardised_as_their_own():
    benchmark = five_datasets([COLOUR, GREY], standardised=True)
    view, rows, task = (
        benchmark.make_stream(0).view,
        torch.tensor([3, 95, 4]),
        torch.tensor([0, 1, 0]),
    )
    together = load_examples(benchmark, view, rows, task).images
    for n in range(3):
        alone = load_examples(benchmark, view, rows[n : n + 1], task[n : n + 1]).images
        assert torch.equal(together[n : n + 1], alone)


def test_skipped_tasks_leave_the_others_their_heads():
    whole, rest = (five_datasets([COLOUR, GREY], True, skip_tasks=skip) for skip in (0, 1))
    assert (rest.tasks, rest.outputs, len(rest.images)) == (1, 20, 60)
    assert torch.equal(seen(rest, 0).images, seen(whole, 1).images)
    assert torch.equal(seen(rest, 0).target, seen(whole, 1).target)
    assert torch.equal(seen(rest, 0).visible_logits, seen(whole, 1).visible_logits)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (some("large", (3, 33, 32), 30), r"at most 32 x 32 pixels, found \[3, 33, 32\] in large"),
        (some("two", (2, 32, 32), 30), r"must have 1 or 3 channels .* in two"),
        (some("few", (1, 8, 8), 30, classes=5), r"datasets of as many classes, found \[10, 5\]"),
    ],
)
def test_what_cannot_be_shown_alike_is_refused(other, sentence):
    with pytest.raises(UserError, match=sentence):
        five_datasets([GREY, other], standardised=True)


def kept_in(folder, dataset):
    n, x = dataset.n_train, dataset.x.transpose(0, 2, 3, 1)
    parts = {"x_train": x[:n], "y_train": dataset.y[:n], "x_test": x[n:], "y_test": dataset.y[n:]}
    np.savez(folder / f"{dataset.name}.npz", **parts)


def asking_for(folder, *names):
    return OmegaConf.create({"benchmark": {"datasets": list(names)}, "data_dir": str(folder)})


def test_missing_datasets_are_named_once_and_the_record_will_not_have_them(tmp_path):
    for dataset in (GREY, COLOUR):
        kept_in(tmp_path, dataset)
    with pytest.warns(UserWarning, match=r"with 2 tasks: svhn, mine not found in .*status"):
        config = with_present_datasets(asking_for(tmp_path, "colour", "svhn", "grey", "mine"))
    assert config.benchmark.datasets == ["colour", "grey"]
    same = asking_for(tmp_path, "grey", "colour")
    assert with_present_datasets(same) == same


def test_one_dataset_is_no_sequence(tmp_path):
    kept_in(tmp_path, GREY)
    with pytest.raises(UserError, match="two of grey, mine or more, found grey in"):
        with_present_datasets(asking_for(tmp_path, "grey", "mine"))
    with pytest.raises(UserError, match="found none in"):
        with_present_datasets(asking_for(tmp_path, "mine", "yours"))
    with pytest.raises(UserError, match=r"`benchmark\.datasets` must be a list of names"):
        with_present_datasets(OmegaConf.create({"benchmark": {"datasets": "m"}, "data_dir": "."}))


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
    if not present([name]):
        pytest.skip(f"{name} is not {place}")
    dataset = load(name)
    found = mean_and_deviation(padded([dataset])[: dataset.n_train, :1])
    torch.testing.assert_close(found[:, 0], torch.tensor([mean, deviation]), rtol=0, atol=1e-4)
