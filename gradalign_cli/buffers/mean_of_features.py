"""Mean of features: of each class, the examples nearest to its mean feature (MoF; Chaudhry et al.
2019, arXiv 1902.10486, sec. 3)."""

from torch import Tensor

from gradalign_cli.buffers.buffer import Buffer, CapacityUnit
from gradalign_cli.buffers.per_class import per_class_buffer


def examples_nearest_to_mean(features: Tensor, count: int) -> Tensor:
    """The indices [at most count] of the examples whose features [n, F] are nearest to their mean,
    the nearest first."""
    order: Tensor = (features - features.mean(0)).norm(dim=1).argsort(stable=True)
    return order[:count]


def mean_of_features(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int
) -> Buffer:
    """Examples are chosen when a task has ended, by the features that the network then has.

    The paper keeps a running mean while the task is trained, of features that are changing.
    """
    return per_class_buffer(
        examples_nearest_to_mean, capacity, capacity_per, tasks, classes_per_task
    )
