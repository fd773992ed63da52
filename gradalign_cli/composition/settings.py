"""Settings of a config that belong to no part of the run: how long, on which device."""

import torch
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.errors import require
from gradalign_cli.training.plan import Plan

QUICK_PASSES = 5  # at most


def read_whole_number(config: DictConfig, field: str, minimum: int = 1) -> int:
    """A whole number of the config; UserError where it is less than `least` or no whole number."""
    value = OmegaConf.select(config, field)
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= minimum, field, f"a whole number of at least {minimum}", value)
    return int(value)


def is_quick(config: DictConfig) -> bool:
    """Whether the run is a small one, only to see that all is there."""
    quick = config.get("quick", False)  # an earlier version's config.yaml has none
    require(isinstance(quick, bool), "quick", "true or false", quick)
    return bool(quick)


def read_plan(config: DictConfig) -> Plan:
    """How long to train and what to look at. A quick run makes few passes and has no learning
    curve."""
    plan = Plan(
        read_whole_number(config, "passes"),
        read_whole_number(config, "batch_size"),
        read_whole_number(config, "alignment.every"),
        read_whole_number(config, "metrics.lca_batches", minimum=0),
        read_whole_number(config, "metrics.continual_every", minimum=0),
        read_whole_number(config, "metrics.continual_samples"),
    )
    if is_quick(config):
        return plan._replace(passes=min(plan.passes, QUICK_PASSES), lca_batches=0)
    return plan


def choose_device(config: DictConfig) -> torch.device:
    """The device of a run; `auto` takes a GPU where there is one."""
    name, has_gpu = config.device, torch.cuda.is_available()
    require(name in ("auto", "cpu", "cuda"), "device", "auto, cpu or cuda", name)
    require(has_gpu or name != "cuda", "device", "auto or cpu where PyTorch finds no GPU", name)
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")
