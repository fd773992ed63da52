"""Mean of features: of each class, the examples nearest to its mean (MoF; Chaudhry et al. 2019,
arXiv 1902.10486, sec. 3)."""

from torch import Tensor

from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.buffers.per_class import chosen_per_class


def nearest_to_mean(features: Tensor, count: int) -> Tensor:
    """The numbers [at most count] of features [n, F], the nearest to their mean first."""
    order: Tensor = (features - features.mean(0)).norm(dim=1).argsort(stable=True)
    return order[:count]


def mean_of_features(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """Chosen when a task has ended, from the features the network has for it then.

    The paper keeps a running mean while the task is trained, of features that are changing.
    """
    return chosen_per_class(nearest_to_mean, capacity, capacity_per, tasks, classes)
