"""Fine-tuning: plain training on each task in turn, the lower bound ("single" in GEM)."""

from gradalign_cli.methods.method import Method, keep_gradient


def finetune() -> Method:
    """Follow the gradient of the new task, whatever it does to the old ones."""
    return Method(keep_gradient)
