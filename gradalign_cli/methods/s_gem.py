"""S-GEM: project against the gradient on one earlier task, drawn at random (Chaudhry et al. 2019,
sec. 4)."""

from typing import Any

from torch import Tensor

from gradalign_cli.methods.agem import project
from gradalign_cli.methods.method import Gradients, Method


def s_gem() -> Method:
    """A-GEM's projection, against the gradient on a memory batch of one earlier task instead of
    all; the task is drawn at random in each step."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        return project(gradients.g, gradients.references[0]), state

    return Method(
        align,
        references="one_task",
        claims=("hurts_no_reference", "does_not_lengthen", "projects_orthogonally"),
        align_accepts_updates=True,
    )
