"""The step sizes of PyTorch's schedulers."""

import torch


def factors(schedule, steps):
    """A schedule's factor of each step."""
    return [schedule.lr_factor(step, steps) for step in range(steps)]


def pytorchs_factors(make_scheduler, steps):
    """The step sizes of an optimizer that began with 1;  make_scheduler: of the optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, sizes = make_scheduler(optimizer), []
    for _ in range(steps):
        sizes.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return sizes
