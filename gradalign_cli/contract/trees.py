"""Trees of tensors as the contract compares them: by name, form and value."""

from typing import Any

from torch import Tensor

from gradalign_cli.contract.findings import BrokenRuleError


def named_tensors(tree: Any, tree_name: str) -> dict[str, Tensor]:
    """The tensors of a tree by their path below `tree_name`. Raises BrokenRuleError where it holds
    something else."""
    if isinstance(tree, Tensor):
        return {tree_name: tree}
    if not isinstance(tree, tuple):
        raise BrokenRuleError(
            f"{tree_name} must be a tensor or a tuple of tensors, such as a NamedTuple, found "
            f"{type(tree).__name__}; only tensors can be batched, captured and saved"
        )
    fields = getattr(tree, "_fields", range(len(tree)))
    branches = [
        named_tensors(part, f"{tree_name}.{field}")
        for field, part in zip(fields, tree, strict=True)
    ]
    return {path: tensor for branch in branches for path, tensor in branch.items()}


def form_change(before: Any, after: Any, tree_name: str, shapes_too: bool = True) -> str:
    """How the form of a tree has changed: its tensors, their types, and their shapes or else only
    numbers of dimensions. Empty where it has not."""
    old, new = named_tensors(before, tree_name), named_tensors(after, tree_name)
    if old.keys() != new.keys():
        return f"it held {', '.join(old) or 'nothing'} and holds {', '.join(new) or 'nothing'}"
    for path, tensor in old.items():
        was, now = (
            (list(t.shape) if shapes_too else t.ndim, str(t.dtype)) for t in (tensor, new[path])
        )
        if was != now:
            kind = "" if shapes_too else " dimensions"
            return f"{path} was {was[1]} {was[0]}{kind} and is {now[1]} {now[0]}{kind}"
    return ""


def difference(expected: Any, computed: Any, tree_name: str, tolerance: float) -> str:
    """Which tensor of a tree differs by more than the tolerance, relative to 1 + its size, and by
    how much. Empty where none does."""
    change = form_change(expected, computed, tree_name)
    if change:
        return change
    values = named_tensors(computed, tree_name)
    for path, tensor in named_tensors(expected, tree_name).items():
        wanted, value = tensor.double(), values[path].double()
        gap = (wanted - value).abs()
        same = (wanted == value) | (wanted.isnan() & value.isnan())  # infinite ones, too
        if not (same | (gap <= tolerance * (1 + wanted.abs()))).all():
            return f"{path} differs by up to {float(gap.max()):.2g}"
    return ""
