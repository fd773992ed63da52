"""Other tools at the work of bench_step.py, where they are installed."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, TensorDataset

INSTALLED = importlib.util.find_spec("avalanche") is not None


class Bytes(Dataset[tuple[Tensor, int]]):
    """Images of bytes [n, 28, 28], turned into floats one by one as Avalanche's MNIST does."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.images[place].float().unsqueeze(0) / 255, int(self.labels[place])


def avalanche(
    network: nn.Module,
    held: Sequence[tuple[Tensor, Tensor]],
    own: tuple[Tensor, Tensor],
    pixels: Tensor | None,
    batch: int,
    memory_batch: int | None,
    lr: float,
) -> Callable[[], None]:
    """A round of Avalanche: A-GEM, or GEM where no memory batch is given.

    held: the images and labels that earlier tasks have in memory;  own: those of a round. pixels:
    [T, D] the permutations where images are bytes that Avalanche turns into floats and permutes as
    its own PermutedMNIST does; None where they are prepared beforehand, in its favour. What it does
    to its memory when a task ends is left out, in its favour too.
    """
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.classic.cmnist import PixelsPermutation
    from avalanche.benchmarks.utils import DefaultTransformGroups, as_classification_dataset
    from avalanche.training.plugins import AGEMPlugin, EvaluationPlugin, GEMPlugin
    from avalanche.training.supervised import Naive

    def dataset(examples: tuple[Tensor, Tensor], task: int) -> Any:
        plain: Any = TensorDataset(*examples) if pixels is None else Bytes(*examples)
        plain.targets, plain.targets_task_labels = examples[1], [task] * len(examples[1])
        if pixels is None:
            return as_classification_dataset(plain)
        permutation = DefaultTransformGroups((PixelsPermutation(pixels[task]), None))
        return as_classification_dataset(plain, transform_groups=permutation)

    class AGEM(AGEMPlugin):  # type: ignore[misc]
        def after_training_exp(self, strategy: Any, **_: Any) -> None: ...

    class GEM(GEMPlugin):  # type: ignore[misc]
        def before_training(self, strategy: Any, **_: Any) -> None:
            strategy.clock.train_exp_counter = len(held)

        def after_training_exp(self, strategy: Any, **_: Any) -> None: ...

    slots, plugin = len(held[0][1]), None
    if memory_batch:
        plugin = AGEM(slots, memory_batch)
        for t, examples in enumerate(held):
            plugin.update_memory(dataset(examples, t))
    else:
        plugin = GEM(slots, 0.5)
        for t, examples in enumerate(held):
            plugin.update_memory(dataset(examples, t), t, slots)
    strategy = Naive(
        model=nn.Sequential(nn.Flatten(), network),
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        criterion=cross_entropy,
        train_mb_size=batch,
        train_epochs=1,
        plugins=[plugin],
        evaluator=EvaluationPlugin(),
    )
    (experience,) = benchmark_from_datasets(train=[dataset(own, len(held))]).train_stream

    def round_() -> None:
        strategy.train(experience)

    return round_
