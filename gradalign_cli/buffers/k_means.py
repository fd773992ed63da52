"""k-means: of each class, the examples nearest to the cluster centres of its features (Chaudhry et
al. 2019, arXiv 1902.10486, sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import Buffer, CapacityUnit
from gradalign_cli.buffers.per_class import per_class_buffer

ROUNDING = 1e-5  # of the longest feature vector
MAX_ITERATIONS = 50  # it stops sooner where no example changes its cluster


def first_nearest_index(distances: Tensor, rounding_error: Tensor) -> Tensor:
    """The index [n] of the smallest of each row's distances [n, k]; the first of those that differ
    by no more than `rounding_error` [].

    Two members of a cluster of two are equally far from its centre. Which of them is taken must not
    hang on the last bit of a feature, as engines differ there.
    """
    close = distances <= distances.amin(1, keepdim=True) + rounding_error
    return close.long().argmax(1)


def pairwise_distances(points: Tensor, other_points: Tensor) -> Tensor:
    """The distances [n, k] between points [n, F] and [k, F], not by way of their products, which
    cancel where points are close."""
    return torch.cdist(points, other_points, compute_mode="donot_use_mm_for_euclid_dist")


def cluster_centres(features: Tensor, count: int) -> Tensor:
    """The centres [count, F] that Lloyd's algorithm finds for features [n, F], starting from the
    first `count` examples; needs count <= n.

    A centre that loses all its examples stays where it is.
    """
    centres, cluster = features[:count], features.new_full((len(features),), -1).long()
    for _ in range(MAX_ITERATIONS):
        assigned = first_nearest_index(
            pairwise_distances(features, centres), rounding_error_of_distances(features)
        )
        if torch.equal(assigned, cluster):
            break
        cluster = assigned
        numbers = torch.arange(len(centres), device=cluster.device)[:, None]
        members = (cluster == numbers).to(centres.dtype)
        sizes = members.sum(1, keepdim=True)
        centres = torch.where(sizes > 0, members @ features / sizes.clamp_min(1), centres)
    return centres


def rounding_error_of_distances(features: Tensor) -> Tensor:
    """A distance [] that features [n, F] computed in float32 may be off by."""
    longest: Tensor = features.norm(dim=1).max()
    return ROUNDING * longest


def nearest_to_centres(features: Tensor, count: int) -> Tensor:
    """The indices [at most count] of the example nearest to each cluster centre of features [n, F],
    none of them twice."""
    features = features.double()
    centres = cluster_centres(features, min(count, len(features)))
    distances = pairwise_distances(centres, features)
    chosen = []
    for k in range(len(distances)):
        index = first_nearest_index(distances[k : k + 1], rounding_error_of_distances(features))[0]
        distances[:, index] = torch.inf
        chosen.append(index)
    return torch.stack(chosen)


def k_means(capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int) -> Buffer:
    """Examples are chosen when a task has ended, by the features that the network then has.

    The paper moves its centres while the task is trained, by features that are changing.
    """
    return per_class_buffer(nearest_to_centres, capacity, capacity_per, tasks, classes_per_task)
