"""The contract of a benchmark: tasks that are rows of its images, and what tasks see of them."""

import torch

from gradalign_cli.contract.findings import Rule, expect
from gradalign_cli.contract.small_runs import BuildBenchmark
from gradalign_cli.contract.trees import difference
from gradalign_cli.numerics.trees import take_rows


def benchmark_rules(build: BuildBenchmark) -> list[Rule]:
    """The rules of a benchmark's contract;  build: () -> the benchmark, new."""
    return [
        Rule(
            "every task has rows to train and to test on",
            lambda: check_tasks_have_rows(build),
            True,
        ),
        Rule("rows are rows of the images", lambda: check_row_range(build), is_prerequisite=True),
        Rule("no row is both trained and tested on", lambda: check_train_test_disjoint(build)),
        Rule("a seed gives one stream, whatever came before", lambda: check_reproducible(build)),
        Rule(
            "the target of every example is a visible logit", lambda: check_targets_visible(build)
        ),
    ]


def check_tasks_have_rows(build: BuildBenchmark) -> None:
    """Raise BrokenRuleError where a task is missing or empty."""
    benchmark = build()
    stream = benchmark.make_stream(0)
    for name, parts in (("train_rows", stream.train_rows), ("test_rows", stream.test_rows)):
        counts = [len(rows) for rows in parts]
        expect(
            len(counts) == benchmark.tasks and all(counts),
            f"`make_stream` must give {name} for {benchmark.tasks} tasks, none empty, found "
            f"{counts}",
        )


def check_row_range(build: BuildBenchmark) -> None:
    """Raise BrokenRuleError where a row is none of an image."""
    benchmark = build()
    stream, count = benchmark.make_stream(0), len(benchmark.images)
    for rows in (*stream.train_rows, *stream.test_rows):
        expect(
            rows.dtype == torch.long and bool(((rows >= 0) & (rows < count)).all()),
            f"rows must be whole numbers (int64) below {count}, found {rows.dtype} up to "
            f"{int(rows.max())}",
        )


def check_train_test_disjoint(build: BuildBenchmark) -> None:
    """Raise BrokenRuleError where a test knows what was trained on."""
    stream = build().make_stream(0)
    shared_count = torch.isin(torch.cat(stream.train_rows), torch.cat(stream.test_rows)).sum()
    expect(not shared_count, f"{int(shared_count)} rows are in train_rows and in test_rows")


def check_reproducible(build: BuildBenchmark) -> None:
    """Raise BrokenRuleError where a seed does not decide the stream."""
    before = torch.get_rng_state()
    first = build().make_stream(3)
    build().make_stream(4)
    second = build().make_stream(3)
    parts = [(s.train_rows, s.test_rows, s.view) for s in (first, second)]
    change = difference(lists_as_tuples(parts[0]), lists_as_tuples(parts[1]), "the stream", 0.0)
    advice = "draw by generator(seed, purpose) of numerics/generators.py"
    expect(not change, f"{change} when seed 3 is asked for twice: {advice}")
    is_quiet = torch.equal(before, torch.get_rng_state())
    expect(is_quiet, f"it draws from PyTorch's global generator: {advice}")


def lists_as_tuples(tree: object) -> object:
    """Lists in a tree as tuples."""
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        return tuple(lists_as_tuples(part) for part in tree)
    return tree


def check_targets_visible(build: BuildBenchmark) -> None:
    """Raise BrokenRuleError where a class has no logit, or one that its task hides."""
    benchmark = build()
    stream = benchmark.make_stream(0)
    view = stream.view
    for task, rows in enumerate(stream.train_rows):
        labels = take_rows(benchmark.labels, rows).unique()
        logits = view.logit_of_class[labels]
        expect(
            bool(((logits >= 0) & (logits < benchmark.outputs)).all()),
            f"task {task} has targets up to {int(logits.max())}, there are {benchmark.outputs} "
            "logits: `logit_of_class` says which logit is a class's",
        )
        mask = view.visible_logit_mask
        expect(
            not isinstance(mask, torch.Tensor) or bool(mask[task][logits].all()),
            f"`visible_logit_mask` hides a target of task {task}",
        )
