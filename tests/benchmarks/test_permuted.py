import torch

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.benchmarks.permuted import permuted


def test_every_task_sees_all_pixels_in_one_order_of_its_own(tiny):
    benchmark = permuted(tiny, 3)
    view = benchmark.make_stream(0).view
    rows = torch.arange(7)
    flat = torch.from_numpy(tiny.x).flatten(1)[rows] / 255
    for task in range(3):
        found = load_examples(
            benchmark, view, rows, torch.tensor([task]), torch.ones(7)
        ).images.flatten(1)
        assert torch.equal(found, flat[:, view.pixel_source[task]])
        assert torch.equal(view.pixel_source[task].sort().values, torch.arange(16))
    assert len({tuple(order.tolist()) for order in view.pixel_source}) == 3


def test_pixels_can_be_standardised(tiny):
    plain, benchmark = permuted(tiny, 1), permuted(tiny, 1, standard=[0.2, 0.5])
    rows, task = torch.arange(5), torch.tensor([0])
    x = load_examples(plain, plain.make_stream(0).view, rows, task, rows).images
    found = load_examples(benchmark, benchmark.make_stream(0).view, rows, task, rows).images
    torch.testing.assert_close(found, (x - 0.2) / 0.5)


def test_examples_of_several_tasks_in_one_batch_are_seen_as_their_own_task_sees_them(tiny):
    benchmark = permuted(tiny, 3)
    view = benchmark.make_stream(0).view
    rows, tasks = torch.tensor([4, 9, 4]), torch.tensor([2, 0, 1])
    together = load_examples(benchmark, view, rows, tasks, torch.ones(3)).images
    for n in range(3):
        alone = load_examples(
            benchmark, view, rows[n : n + 1], tasks[n : n + 1], torch.ones(1)
        ).images
        assert torch.equal(together[n : n + 1], alone)


def test_the_first_task_can_be_left_as_it_is_and_the_seed_decides_the_rest(tiny):
    plain = permuted(tiny, 3, first_identity=True).make_stream(0).view.pixel_source
    assert torch.equal(plain[0], torch.arange(16))
    assert torch.equal(plain[1:], permuted(tiny, 3).make_stream(0).view.pixel_source[1:])
    assert not torch.equal(plain[1:], permuted(tiny, 3).make_stream(1).view.pixel_source[1:])
