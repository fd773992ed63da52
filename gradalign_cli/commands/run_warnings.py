"""What a run warns of before it begins, and while it trains."""

import warnings
from collections.abc import Sequence

from omegaconf import DictConfig

from gradalign_cli.step.learner import Parts
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.runaway import Runaway


def warn_of_broken_constraints(parts: Parts) -> None:
    """Warn where the optimizer does not follow the direction that the method gives."""
    if not parts.optimizer.is_plain_sgd and parts.aligned_vector == "gradient":
        can_align = parts.method.aligns_updates
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
