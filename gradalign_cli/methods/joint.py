"""Joint training: all tasks at once, the upper bound ("single, shuffled" in GEM, Table 3)."""

from gradalign_cli.methods.method import Method, keep_gradient


def joint() -> Method:
    """Fine-tuning on the examples of all tasks, shuffled together.

    The shuffled stream is cut into as many parts as there are tasks, so the network is trained on
    as many examples and tested as often as with any other method. It takes as many steps, too,
    where the batch size divides the examples of a task. A pass is over all examples together,
    shuffled anew, so n passes are joint training for n epochs.
    """
    return Method(keep_gradient, shuffles_tasks_together=True)
