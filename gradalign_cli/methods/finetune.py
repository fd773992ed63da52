"""Fine-tuning: plain training on each task in turn, the lower bound ("single" in GEM)."""

from gradalign_cli.methods.method import Method, keep_gradient


def finetune() -> Method:
    """The gradient on the new task, followed as it is, even where it hurts old tasks."""
    return Method(keep_gradient)
