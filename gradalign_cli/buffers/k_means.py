"""k-means: of each class, the examples nearest to the cluster centres of its features (Chaudhry et
al. 2019, arXiv 1902.10486, sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.buffers.per_class import per_class_buffer

MAX_ITERATIONS = 50  # it stops sooner where no example changes its cluster


def cluster_centres(features: Tensor, count: int) -> Tensor:
    """The centres [count, F] that Lloyd's algorithm finds for features [n, F], starting from the
    first `count` examples; needs count <= n.

    A centre that loses all its examples stays where it is.
    """
    centres, cluster = features[:count], features.new_full((len(features),), -1).long()
    for _ in range(MAX_ITERATIONS):
        nearest = torch.cdist(features, centres).argmin(1)
        if torch.equal(nearest, cluster):
            break
        cluster = nearest
        numbers = torch.arange(len(centres), device=cluster.device)[:, None]
        members = (cluster == numbers).to(centres.dtype)
        sizes = members.sum(1, keepdim=True)
        centres = torch.where(sizes > 0, members @ features / sizes.clamp_min(1), centres)
    return centres


def nearest_to_centres(features: Tensor, count: int) -> Tensor:
    """The indices [at most count] of the example nearest to each cluster centre of features [n, F],
    none of them twice."""
    distances = torch.cdist(cluster_centres(features, min(count, len(features))), features)
    order = []
    for centre_distances in distances:
        nearest = centre_distances.argmin()
        distances[:, nearest] = torch.inf
        order.append(nearest)
    return torch.stack(order)


def k_means(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """Examples are chosen when a task has ended, by the features that the network then has.

    The paper moves its centres while the task is trained, by features that are changing.
    """
    return per_class_buffer(nearest_to_centres, capacity, capacity_per, tasks, classes)
