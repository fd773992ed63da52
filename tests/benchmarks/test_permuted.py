import torch

from gradalign_cli.benchmarks.benchmark import show
from gradalign_cli.benchmarks.permuted import permuted


def test_every_task_sees_all_pixels_in_one_order_of_its_own(tiny):
    benchmark = permuted(tiny, 3)
    view = benchmark.stream(0).view
    rows = torch.arange(7)
    flat = torch.from_numpy(tiny.x).flatten(1)[rows] / 255
    for task in range(3):
        found = show(benchmark, view, rows, torch.tensor([task]), torch.ones(7)).x.flatten(1)
        assert torch.equal(found, flat[:, view.pixels[task]])
        assert torch.equal(view.pixels[task].sort().values, torch.arange(16))
    assert len({tuple(order.tolist()) for order in view.pixels}) == 3


def test_pixels_can_be_standardised(tiny):
    plain, benchmark = permuted(tiny, 1), permuted(tiny, 1, standard=[0.2, 0.5])
    rows, task = torch.arange(5), torch.tensor([0])
    x = show(plain, plain.stream(0).view, rows, task, rows).x
    found = show(benchmark, benchmark.stream(0).view, rows, task, rows).x
    torch.testing.assert_close(found, (x - 0.2) / 0.5)


def test_examples_of_several_tasks_in_one_batch_are_seen_as_their_own_task_sees_them(tiny):
    benchmark = permuted(tiny, 3)
    view = benchmark.stream(0).view
    rows, tasks = torch.tensor([4, 9, 4]), torch.tensor([2, 0, 1])
    together = show(benchmark, view, rows, tasks, torch.ones(3)).x
    for n in range(3):
        alone = show(benchmark, view, rows[n : n + 1], tasks[n : n + 1], torch.ones(1)).x
        assert torch.equal(together[n : n + 1], alone)


def test_the_first_task_can_be_left_as_it_is_and_the_seed_decides_the_rest(tiny):
    plain = permuted(tiny, 3, first_identity=True).stream(0).view.pixels
    assert torch.equal(plain[0], torch.arange(16))
    assert torch.equal(plain[1:], permuted(tiny, 3).stream(0).view.pixels[1:])
    assert not torch.equal(plain[1:], permuted(tiny, 3).stream(1).view.pixels[1:])
