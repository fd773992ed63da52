"""Evaluation: what the learners of all replicas answer on examples of a task."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.benchmarks.examples import Examples, mask_logits
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.engines.engine import Engine
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.devices import CPU, default_device, to_device
from gradalign_cli.numerics.trees import Absent, take_rows
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.training.replica import Replica

LARGEST_TEST_BATCH = 2000
CONVOLUTIONS_ON_CPU_TEST_BATCH = 100  # what larger ones make of images leaves a core's caches

# (logits [n, outputs], examples, the logits of the task's own classes [n, outputs] or absent) ->
# the sum [...] over the examples of what is asked for
SummedScore = Callable[[Tensor, Examples, Tensor | Absent], Tensor]


def correct_counts(logits: Tensor, examples: Examples, task_logit_mask: Tensor | Absent) -> Tensor:
    """How many examples [1 or 2] are answered correctly: with the logits that count in training,
    and with those of the task's own classes alone where a view tells them apart."""
    visible = examples.visible_logit_mask
    masks = [visible, task_logit_mask] if isinstance(task_logit_mask, Tensor) else [visible]
    guesses = torch.stack([mask_logits(logits, counted).argmax(1) for counted in masks])
    return (guesses == examples.target).sum(1)


def total_loss(logits: Tensor, examples: Examples, _task_logit_mask: Tensor | Absent) -> Tensor:
    """The sum [] of the examples' cross-entropy."""
    visible = mask_logits(logits, examples.visible_logit_mask)
    return functional.cross_entropy(visible, examples.target, reduction="sum")


def evaluation_batch_size(model: Model, device: torch.device) -> int:
    """The most examples that are tested in one pass."""
    on_cpu = model.convolutional and device == CPU
    return CONVOLUTIONS_ON_CPU_TEST_BATCH if on_cpu else LARGEST_TEST_BATCH


def even_pieces(rows: Tensor, largest: int, dimension: int) -> tuple[Tensor, ...]:
    """Rows in pieces of at most `largest`, which differ by one: none is a single row left over,
    which BatchNorm could not normalise."""
    return rows.tensor_split(-(-rows.shape[dimension] // largest), dimension)


class Evaluator:
    """Tests the learners of all replicas, and counts the seconds that this takes."""

    def __init__(
        self, parts: Parts, replicas: Sequence[Replica], engine: Engine, seconds: float = 0.0
    ) -> None:
        """seconds: what tests took before a run was resumed."""
        self.parts, self.replicas, self.engine, self.seconds = parts, replicas, engine, seconds

    def accuracy(
        self,
        learners: Learner,
        views: TaskViews,
        tasks: Sequence[int],
        test_samples: int | None = None,
    ) -> Tensor:
        """Accuracy [1 or 2, R, tasks] on the test set of each task, as a fraction of its examples,
        see `correct_counts`.

        test_samples: examples of a test set that are looked at, evenly spread; all of them when
        None.
        """
        columns = []
        for task in tasks:
            rows = torch.stack([replica.stream.test_rows[task] for replica in self.replicas])
            if test_samples and test_samples < rows.shape[1]:
                rows = rows[:, torch.linspace(0, rows.shape[1] - 1, test_samples).long()]
            columns.append(self.mean(learners, views, task, rows, correct_counts))
        return torch.stack(columns, 1).movedim(2, 0).to(CPU)

    def held_out_loss(self, learners: Learner, views: TaskViews, task: int) -> float:
        """The mean cross-entropy of a single replica on what is held out of a task."""
        rows = torch.stack([replica.stream.held_out_rows[task] for replica in self.replicas])
        return float(self.mean(learners, views, task, rows, total_loss))

    def mean(
        self,
        learners: Learner,
        views: TaskViews,
        task: int,
        rows: Tensor,
        summed_score: SummedScore,
    ) -> Tensor:
        """The mean [R, ...] of a score over rows [R, n] of a task, with the network as it is
        tested."""
        begin = time.perf_counter()
        parts, network = self.parts, make_network(self.parts.model, training=False)

        def total(learner: Learner, view: TaskViews, rows: Tensor, number: Tensor) -> Tensor:
            examples = load_examples(parts.benchmark, view, rows, number)
            params = parts.method.test_params(
                learner.method_state, learner.params, task, parts.model.layers
            )
            logits = network(params, learner.statistics, examples).logits
            task_logit_mask = view.task_logit_mask
            if isinstance(task_logit_mask, Tensor):
                task_logit_mask = take_rows(task_logit_mask, number)
            return summed_score(logits, examples, task_logit_mask)

        with torch.no_grad(), default_device(self.engine.device):
            number = torch.full((len(rows), 1), task)
            pieces = even_pieces(
                to_device(rows, self.engine.device),
                evaluation_batch_size(parts.model, self.engine.device),
                1,
            )
            totals = [
                self.engine.map_replicas(total, learners, views, piece, number) for piece in pieces
            ]
            mean = torch.stack(totals).sum(0) / rows.shape[1]
        self.seconds += time.perf_counter() - begin
        return mean
