"""A quick benchmark is the beginning of the whole one."""

import torch

from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.quick import quick_benchmark
from gradalign_cli.benchmarks.split import split


def test_a_quick_benchmark_has_the_first_three_tasks_as_the_whole_one_shows_them(tiny):
    whole = permuted(tiny, 5)
    quick = quick_benchmark(whole)
    stream, whole_stream = quick.make_stream(0), whole.make_stream(0)
    assert quick.tasks == len(stream.train_rows) == len(stream.test_rows) == 3
    assert torch.equal(stream.view.pixel_source, whole_stream.view.pixel_source[:3])


def test_a_quick_benchmark_takes_some_of_a_tasks_own_examples_and_others_for_another_seed(
    tiny, monkeypatch
):
    monkeypatch.setattr("gradalign_cli.benchmarks.quick.TRAIN_EXAMPLES", 7)
    monkeypatch.setattr("gradalign_cli.benchmarks.quick.TEST_EXAMPLES", 4)
    whole = split(tiny, 2, "class")
    quick = quick_benchmark(whole)
    stream, whole_stream = quick.make_stream(0), whole.make_stream(0)
    for part, count in (("train_rows", 7), ("test_rows", 4)):
        for few, many in zip(getattr(stream, part), getattr(whole_stream, part), strict=True):
            assert len(few.unique()) == len(few) == count
            assert set(few.tolist()) < set(many.tolist())
    assert not torch.equal(stream.train_rows[0], quick.make_stream(1).train_rows[0])


def test_a_benchmark_that_is_small_already_stays_as_it_is(tiny):
    whole = split(tiny, 2, "task", first_tasks=2)
    quick = quick_benchmark(whole)
    assert quick.tasks == 2
    for few, many in zip(quick.make_stream(0)[:2], whole.make_stream(0)[:2], strict=True):
        assert all(torch.equal(rows, all_rows) for rows, all_rows in zip(few, many, strict=True))
    masks = [b.make_stream(0).view.visible_logit_mask for b in (quick, whole)]
    assert torch.equal(*masks)
