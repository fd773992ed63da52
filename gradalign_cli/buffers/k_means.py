"""k-means: of each class, the examples nearest to the centres of its features (Chaudhry et al.
2019, arXiv 1902.10486, sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.buffers.per_class import chosen_per_class

ROUNDS = 50  # at most; it ends sooner when no example changes its centre


def centres(features: Tensor, count: int) -> Tensor:
    """Lloyd's algorithm on features [n, F]: centres [count, F], from the first examples on.

    A centre that loses all its examples stays where it is.
    """
    found, owner = features[:count], features.new_full((len(features),), -1).long()
    for _ in range(ROUNDS):
        nearest = torch.cdist(features, found).argmin(1)
        if torch.equal(nearest, owner):
            break
        owner = nearest
        member = (owner == torch.arange(len(found), device=owner.device)[:, None]).to(found.dtype)
        held = member.sum(1, keepdim=True)
        found = torch.where(held > 0, member @ features / held.clamp_min(1), found)
    return found


def nearest_to_centres(features: Tensor, count: int) -> Tensor:
    """The numbers [at most count] of the examples nearest to each centre, none of them twice."""
    distance = torch.cdist(centres(features, min(count, len(features))), features)
    order = []
    for own in distance:
        best = own.argmin()
        distance[:, best] = torch.inf
        order.append(best)
    return torch.stack(order)


def k_means(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """Chosen when a task has ended, from the features the network has for it then.

    The paper moves its centres while the task is trained, by features that are changing.
    """
    return chosen_per_class(nearest_to_centres, capacity, capacity_per, tasks, classes)
