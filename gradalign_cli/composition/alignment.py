"""What the method of a run aligns: the gradient that the optimizer gets, or the update it gives."""

from collections.abc import Sequence

from omegaconf import DictConfig

from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import Method, can_align_updates
from gradalign_cli.step.learner import AlignedVector


def read_aligned_vector(config: DictConfig, replica_methods: Sequence[Method]) -> AlignedVector:
    """The setting `alignment.of`; UserError where a replica's method cannot align updates.

    Configs of earlier versions align gradients and do not say so.
    """
    aligned: AlignedVector = config.alignment.get("of", "gradient")
    if aligned == "update" and not all(map(can_align_updates, replica_methods)):
        method = "gem with a margin" if config.method.name == "gem" else config.method.name
        raise UserError(
            f"`alignment.of` must be gradient with method {method}, whose rule is not defined for "
            "updates, found 'update'"
        )
    return aligned
