"""What a run warns of before it begins, and while it trains."""

import warnings
from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from gradalign_cli.schedules.schedule import Schedule, TaskOrRun
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.runaway import Runaway


def warn_where_optimizer_can_break_constraints(parts: Parts) -> None:
    """Warn where the optimizer does not follow the direction that the method gives."""
    if not parts.optimizer.is_plain_sgd and parts.aligned_vector == "gradient":
        can_align = parts.method.align_accepts_updates
        advice = "; alignment.of=update aligns what the optimizer makes of the gradient"
        warnings.warn(
            "momentum, weight decay and Adam act after the alignment and can break the constraint "
            f"it kept; record.json says how often (`broken_constraints`){advice * can_align}",
            stacklevel=1,
        )


def warn_of_step_sizes(replicas: list[Replica]) -> None:
    """Warn where a method says that a replica's `lr` is wrong, once for all such replicas."""
    sentences = [replica.method.step_size_warning(replica.lr) for replica in replicas]
    warned = [number for number, sentence in enumerate(sentences) if sentence]
    if warned:
        numbers = ", ".join(map(str, warned))
        warnings.warn(f"{sentences[warned[0]]} (replica {numbers})", stacklevel=1)


def warn_of_warm_up(schedule: Schedule | None, planned_steps: Mapping[TaskOrRun, int]) -> None:
    """Warn where a schedule ends before a step has had its full size.

    planned_steps: of the longest `task`, and of the `run`.
    """
    if schedule is None:
        return
    steps = planned_steps[schedule.over]
    if not any(schedule.lr_factor(step, steps) >= 1 for step in range(steps)):
        warnings.warn(
            f"no step has the full size of `replicas.lr`: the {steps} steps of a {schedule.over} "
            "end before `schedule.warm_up` does",
            stacklevel=1,
        )


def warn_of_runaway(
    runaway: Runaway, config: DictConfig, replica_settings: Sequence[dict[str, float]]
) -> None:
    """Warn of a replica whose parameters run away;  replica_settings: of each
    replica, by name."""
    seed, lr = (replica_settings[runaway.replica][name] for name in ("seed", "lr"))
    strengths = [
        f"`{group}.strength`"
        for group in ("method", "objective")
        if "strength" in config.get(group, {})
    ]
    warnings.warn(
        f"the parameters run away with method {config.method.name}: replica {runaway.replica} "
        f"(seed {seed}, lr {lr:g}) has a loss of {runaway.loss:.3g} in task {runaway.task}, step "
        f"{runaway.step}: try a smaller {' or '.join(['`replicas.lr`', *strengths])}",
        stacklevel=1,
    )
