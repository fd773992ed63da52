"""Other tools at the work of bench_step.py, where they are installed (the extra `bench`)."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, TensorDataset

INSTALLED = importlib.util.find_spec("avalanche") is not None

TaskExamples = tuple[Tensor, Tensor]  # images and labels [n] of one task


class ByteImages(Dataset[tuple[Tensor, int]]):
    """Images of bytes [n, 28, 28], turned into floats one by one as Avalanche's MNIST does."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].float().unsqueeze(0) / 255, int(self.labels[index])


def avalanche_round(
    network: nn.Module,
    memory: Sequence[TaskExamples],
    round_examples: TaskExamples,
    permutations: Tensor | None,
    batch_size: int,
    memory_batch_size: int | None,
    lr: float,
) -> Callable[[], None]:
    """A round of Avalanche: A-GEM, or GEM where there is no memory batch size.

    memory: what the memory holds of each past task;  round_examples: what a round trains on;
    permutations: [T, pixels] where images are bytes, which Avalanche turns into floats and permutes
    as its own PermutedMNIST does; None where images are prepared beforehand, in Avalanche's favour.
    What it does to its memory at the end of a task is left out, in its favour too.
    """
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

    past_datasets = [
        avalanche_dataset(examples, task, permutations) for task, examples in enumerate(memory)
    ]
    slots_per_task = len(memory[0][1])
    if memory_batch_size:
        plugin = agem_plugin(past_datasets, slots_per_task, memory_batch_size)
    else:
        plugin = gem_plugin(past_datasets, slots_per_task)
    strategy = Naive(
        model=nn.Sequential(nn.Flatten(), network),
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        criterion=cross_entropy,
        train_mb_size=batch_size,
        train_epochs=1,
        plugins=[plugin],
        evaluator=EvaluationPlugin(),
    )
    round_dataset = avalanche_dataset(round_examples, len(memory), permutations)
    (experience,) = benchmark_from_datasets(train=[round_dataset]).train_stream

    def run_round() -> None:
        strategy.train(experience)

    return run_round


def avalanche_dataset(examples: TaskExamples, task: int, permutations: Tensor | None) -> Any:
    """The examples of a task as Avalanche's dataset, see `avalanche_round`."""
    from avalanche.benchmarks.classic.cmnist import PixelsPermutation
    from avalanche.benchmarks.utils import DefaultTransformGroups, as_classification_dataset

    dataset: Any = TensorDataset(*examples) if permutations is None else ByteImages(*examples)
    dataset.targets, dataset.targets_task_labels = examples[1], [task] * len(examples[1])
    if permutations is None:
        return as_classification_dataset(dataset)
    transforms = DefaultTransformGroups((PixelsPermutation(permutations[task]), None))
    return as_classification_dataset(dataset, transform_groups=transforms)


def agem_plugin(past_datasets: Sequence[Any], slots_per_task: int, memory_batch_size: int) -> Any:
    """Avalanche's A-GEM with the past tasks in its memory, which the end of a task leaves as it
    is."""
    from avalanche.training.plugins import AGEMPlugin

    class AGEM(AGEMPlugin):  # type: ignore[misc]
        def after_training_exp(self, strategy: Any, **_: Any) -> None: ...

    plugin = AGEM(slots_per_task, memory_batch_size)
    for dataset in past_datasets:
        plugin.update_memory(dataset)
    return plugin


def gem_plugin(past_datasets: Sequence[Any], slots_per_task: int) -> Any:
    """Avalanche's GEM with the past tasks in its memory, which the end of a task leaves as it
    is."""
    from avalanche.training.plugins import GEMPlugin

    class GEM(GEMPlugin):  # type: ignore[misc]
        def before_training(self, strategy: Any, **_: Any) -> None:
            strategy.clock.train_exp_counter = len(past_datasets)

        def after_training_exp(self, strategy: Any, **_: Any) -> None: ...

    plugin = GEM(slots_per_task, 0.5)
    for task, dataset in enumerate(past_datasets):
        plugin.update_memory(dataset, task, slots_per_task)
    return plugin
