"""Settings of a config that belong to no part of the run: how long, on which device."""

import math

import torch
from omegaconf import DictConfig

from gradalign_cli.errors import require
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.training.free_memory import free_bytes
from gradalign_cli.training.plan import TrainingPlan

QUICK_PASSES = 5  # at most
IMAGE_SHARE = 0.5  # of a GPU's free memory, for images


def is_quick(config: DictConfig) -> bool:
    """Whether the run is a small one, only to see that all is there; configs of earlier versions do
    not say."""
    return bool(config.get("quick", False))


def read_plan(config: DictConfig) -> TrainingPlan:
    """How long to train and what to look at, of a config whose settings were checked. A quick run
    makes few passes and has no learning curve."""
    plan = TrainingPlan(
        config.passes,
        config.batch_size,
        config.alignment.every,
        config.metrics.lca_batches,
        config.metrics.continual_every,
        config.metrics.continual_samples,
    )
    if is_quick(config):
        return plan._replace(passes=min(plan.passes, QUICK_PASSES), lca_batches=0)
    return plan


def choose_device(config: DictConfig) -> torch.device:
    """The device of a run; `auto` takes a GPU where there is one."""
    name, has_gpu = config.device, torch.cuda.is_available()
    require(has_gpu or name != "cuda", "device", "auto or cpu where PyTorch finds no GPU", name)
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def image_budget_bytes(config: DictConfig, device: torch.device) -> float:
    """How many bytes of images a run may put on its device. On a CPU, whose memory holds the
    dataset anyway, there is no bound unless the config names one."""
    budget = config.get("image_budget")  # which earlier versions' configs do not have
    if budget is not None:
        return float(budget) * 2**30
    return math.inf if device == CPU else IMAGE_SHARE * free_bytes(device)
