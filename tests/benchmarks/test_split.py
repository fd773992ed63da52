import numpy as np
import pytest
import torch

from gradalign_cli.benchmarks.examples import mask_logits
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.benchmarks.split import (
    drawn_class_groups,
    fixed_class_groups,
    split,
    split_view,
)
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError


def task_images(benchmark, rows, task):
    """The images of some rows as a task sees them."""
    view = benchmark.make_stream(0).view
    return load_examples(benchmark, view, rows, torch.tensor([task])).images


def test_every_example_of_a_class_is_in_its_task_and_in_no_other(tiny):
    benchmark = split(tiny, 2, "task")
    stream = benchmark.make_stream(0)
    assert benchmark.tasks == 3
    for task in range(3):
        for rows, part in (
            (stream.train_rows[task], range(120)),
            (stream.test_rows[task], range(120, 150)),
        ):
            expected = [row for row in part if tiny.labels[row] in (2 * task, 2 * task + 1)]
            assert sorted(rows.tolist()) == expected


@pytest.mark.parametrize(
    ("scenario", "targets", "visible_logit_mask"),
    [("task", [2, 3], [2, 3]), ("class", [2, 3], [0, 1, 2, 3, 4, 5]), ("domain", [0, 1], [0, 1])],
)
def test_scenarios_differ_in_the_logits_that_count(scenario, targets, visible_logit_mask, tiny):
    benchmark = split(tiny, 2, scenario)
    stream = benchmark.make_stream(0)
    examples = load_examples(benchmark, stream.view, stream.train_rows[1], torch.tensor([1]))
    assert examples.target.unique().tolist() == targets
    mask = examples.visible_logit_mask[:1] if scenario == "task" else ()
    logits = mask_logits(torch.zeros(1, benchmark.outputs), mask)
    assert (logits[0] == 0).nonzero()[:, 0].tolist() == visible_logit_mask


def test_images_are_the_pixels_in_0_to_1_less_the_mean_where_centred(tiny):
    for centred in (False, True):
        benchmark = split(tiny, 2, "task", centred=centred)
        rows = benchmark.make_stream(0).train_rows[0]
        mean = torch.from_numpy(tiny.images[:120]).double().mean(0) / 255 if centred else 0.0
        expected = torch.from_numpy(tiny.images)[rows].double() / 255 - mean
        images = task_images(benchmark, rows, 0).double()
        torch.testing.assert_close(images, expected, rtol=1e-6, atol=1e-6)


def test_pixels_can_be_standardised_channel_by_channel():
    uint8_images = np.random.default_rng(0).integers(0, 256, (12, 2, 3, 3), dtype=np.uint8)
    dataset = Dataset("two channels", uint8_images, np.arange(12) % 2, 8, 2, None)
    benchmark = split(dataset, 1, "task", standard=[[0.2, 0.4], [0.5, 0.25]])
    rows = benchmark.make_stream(0).train_rows[0]
    pixels = torch.from_numpy(uint8_images)[rows].double() / 255
    expected = torch.stack([(pixels[:, 0] - 0.2) / 0.5, (pixels[:, 1] - 0.4) / 0.25], 1)
    images = task_images(benchmark, rows, 0).double()
    torch.testing.assert_close(images, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "standard", [[0.1], [0.1, 0.0], [[0.1, 0.2], 1.0], [0.1, [1.0, 2.0]], ["a", 1.0]]
)
def test_a_standard_that_does_not_fit_the_channels_is_refused(standard, tiny):
    with pytest.raises(
        UserError, match=r"`benchmark.standard` must be \[mean, deviation\], each a"
    ):
        split(tiny, 2, "task", standard=standard)


def class_order(benchmark, seed):
    """The classes of tasks that have one class each."""
    return [int(benchmark.labels[rows[0]]) for rows in benchmark.make_stream(seed).train_rows]


@pytest.mark.parametrize("rule", ["drawn", "agem"])
def test_a_drawn_order_depends_on_the_seed_alone_and_spares_the_skipped_tasks(rule, tiny):
    benchmark = split(tiny, 1, "task", class_order=rule, skip_tasks=2)
    assert class_order(benchmark, 3) == class_order(benchmark, 3)
    assert all(sorted(class_order(benchmark, seed)) == [2, 3, 4, 5] for seed in range(-2, 8))
    assert len({tuple(class_order(benchmark, seed)) for seed in range(8)}) > 1


def test_the_orders_of_a_gem_are_those_its_code_shuffles(tiny):
    benchmark = split(tiny, 1, "task", class_order="agem", skip_tasks=2)
    for run in range(5):
        np.random.seed(1234 + run)
        expected = np.arange(2, 6)
        np.random.shuffle(expected)
        assert class_order(benchmark, run) == expected.tolist()


def test_a_task_can_be_a_superclass_whose_classes_stay_together_in_every_order(tiny):
    dataset = tiny._replace(superclass_of_class=np.array([2, 0, 1, 1, 0, 2]))
    groups = fixed_class_groups(dataset, 2, True)
    assert groups.tolist() == [[1, 4], [2, 3], [0, 5]]
    for seed in range(4):
        drawn = drawn_class_groups(groups, "drawn", 1, True, seed).tolist()
        assert drawn[0] == [1, 4]
        assert sorted(drawn) == sorted(groups.tolist())


def test_drawn_groups_hold_every_class_once(tiny):
    groups = drawn_class_groups(torch.arange(6).view(3, 2), "drawn", 1, False, 0)
    assert groups[0].tolist() == [0, 1]
    assert sorted(groups.flatten().tolist()) == list(range(6))


def test_a_view_counts_the_classes_of_each_task_from_0():
    groups = torch.tensor([[3, 0], [1, 2]])
    view = split_view(groups, range(1, 2), "class")
    assert view.class_in_task.tolist() == [1, 0, 1, 0]
    assert view.task_logit_mask.tolist() == [[False, True, True, False]]
    assert split_view(groups, range(2), "domain").logit_of_class.tolist() == [1, 0, 1, 0]


def test_the_first_tasks_are_those_that_skipping_leaves_out(tiny):
    first = split(tiny, 1, "task", first_tasks=2).make_stream(0)
    others = split(tiny, 1, "task", skip_tasks=2).make_stream(0)
    all_tasks = split(tiny, 1, "task").make_stream(0)
    assert [rows.tolist() for rows in first.train_rows + others.train_rows] == [
        rows.tolist() for rows in all_tasks.train_rows
    ]


def test_samples_per_task_are_drawn_without_replacement_from_the_seed(tiny):
    benchmark = split(tiny, 2, "task", samples_per_task=15)
    first, second = benchmark.make_stream(0), benchmark.make_stream(1)
    assert all(len(rows.unique()) == 15 for rows in first.train_rows)
    assert not torch.equal(first.train_rows[0], second.train_rows[0])
    assert torch.equal(first.train_rows[0], benchmark.make_stream(0).train_rows[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"classes_per_task": 4}, "must be a divisor of the 6 classes of tiny, found 4"),
        ({"scenario": "any"}, "`benchmark.scenario` must be one of task, class, domain"),
        (
            {"class_order": "odd"},
            "`benchmark.class_order` must be one of fixed, drawn, agem, found 'odd'",
        ),
        ({"samples_per_task": 41}, "`benchmark.samples_per_task` is 41, but task 1 has 40"),
        ({"first_tasks": 4}, r"`benchmark.first_tasks` must be in 1..3 or null, found 4"),
        ({"skip_tasks": 3}, "`benchmark.skip_tasks` must be at least 0 and below 3, found 3"),
        ({"superclasses": True}, "`benchmark.superclasses` needs superclasses, tiny has none"),
    ],
)
def test_impossible_splits_are_refused(arguments, sentence, tiny):
    with pytest.raises(UserError, match=sentence):
        split(tiny, **({"classes_per_task": 2, "scenario": "task"} | arguments)).make_stream(0)
