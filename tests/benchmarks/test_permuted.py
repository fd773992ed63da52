import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.benchmarks.permuted import permuted


def test_every_task_sees_all_pixels_in_its_own_order(tiny):
    benchmark = permuted(tiny, 3)
    view = benchmark.make_stream(0).view
    rows = torch.arange(7)
    pixels = torch.from_numpy(tiny.images).flatten(1)[rows] / 255
    for task in range(3):
        images = load_examples(benchmark, view, rows, torch.tensor([task])).images
        assert torch.equal(images.flatten(1), pixels[:, view.pixel_source[task]])
        assert torch.equal(view.pixel_source[task].sort().values, torch.arange(16))
    assert len({tuple(order.tolist()) for order in view.pixel_source}) == 3


def test_pixels_can_be_standardised(tiny):
    plain, standardised = permuted(tiny, 1), permuted(tiny, 1, standard=[0.2, 0.5])
    rows, task = torch.arange(5), torch.tensor([0])
    plain_images, images = (
        load_examples(benchmark, benchmark.make_stream(0).view, rows, task).images
        for benchmark in (plain, standardised)
    )
    torch.testing.assert_close(images, (plain_images - 0.2) / 0.5)


def test_examples_of_several_tasks_in_one_batch_are_seen_as_their_own_task_sees_them(tiny):
    benchmark = permuted(tiny, 3)
    view = benchmark.make_stream(0).view
    rows, tasks = torch.tensor([4, 9, 4]), torch.tensor([2, 0, 1])
    batch = load_examples(benchmark, view, rows, tasks).images
    for n in range(3):
        single = load_examples(benchmark, view, rows[n : n + 1], tasks[n : n + 1]).images
        assert torch.equal(batch[n : n + 1], single)


def test_the_first_task_can_be_left_as_it_is_and_the_seed_decides_the_other_tasks(tiny):
    orders = permuted(tiny, 3, first_identity=True).make_stream(0).view.pixel_source
    assert torch.equal(orders[0], torch.arange(16))
    assert torch.equal(orders[1:], permuted(tiny, 3).make_stream(0).view.pixel_source[1:])
    assert not torch.equal(orders[1:], permuted(tiny, 3).make_stream(1).view.pixel_source[1:])
