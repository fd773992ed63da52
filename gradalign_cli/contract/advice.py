"""What an error of PyTorch says about a step that is batched, recorded or captured, and what to
write instead."""

import re

from gradalign_cli.errors import UserError

WITHOUT_LOOKING = (
    "the step looks at a tensor's numbers, by `if`, `while`, `max`, `.item()`, `float` or a mask "
    "as an index; choose by torch.where and keep numbers as tensors, because a step is batched, "
    "recorded and captured"
)
ADVICE = {
    r"data-dependent control flow|\.item\(\)|tracing tensor|waits for the device": WITHOUT_LOOKING,
    r"_local_scalar_dense|dynamic shape|data-dependent": WITHOUT_LOOKING,
    r"copies between devices|meets tensors of two devices|new_tensor": (
        "the step makes a tensor on the CPU or from Python's numbers; keep numbers in the state, "
        "and make tensors by new_zeros, new_full or torch.zeros_like of those that it is given"
    ),
    r"draws from a CPU's generator|random operation": (
        "the step draws random numbers of its own; take those that it is given, such as "
        "Gradients.random_numbers where the method says `needs_random_numbers`"
    ),
    r"inplace arithmetic|in-place": (
        "the step changes a tensor in place; write x = x + y, which makes a new one"
    ),
}


def advice_for(error: Exception) -> str:
    """What the error means for the author of a part; its own words where we know nothing better."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    for pattern, sentence in ADVICE.items():
        if isinstance(error, RuntimeError) and re.search(pattern, text):
            return sentence
    return f"{type(error).__name__}: {text[:300]}"
