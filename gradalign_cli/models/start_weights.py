"""Tensors to start from, out of a file that cannot run anything: safetensors, or a checkpoint of
PyTorch that is read by `weights_only`."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from gradalign_cli.errors import UserError, os_error_sentence, require
from gradalign_cli.files.reading import open_regular

FIELD = "model.weights"
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which checkpoints hold the tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name. UserError where it is no such file."""
    open_regular(path).close()
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        with warnings.catch_warnings(action="ignore"):  # of the unpickler's doubts
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {os_error_sentence(error, path)}") from error
    except Exception as error:  # a damaged or hostile file can raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"`{FIELD}` must be a .safetensors file or a checkpoint that holds tensors alone, "
            f"found {str(path)!r}: {reason}"
        ) from error
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    are_tensors = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )
    require(are_tensors, FIELD, "a file of tensors with names", type(content).__name__)
    return dict(content)


def check_fit(tensors: Mapping[str, Tensor], module: nn.Module, head: str | None) -> None:
    """Raise UserError, naming the tensor, unless a file holds all of a module, and nothing else, in
    its shapes. The last layer may be missing, and so may buffers without entries in a state."""
    state = module.state_dict()
    for name, tensor in tensors.items():
        require(name in state, FIELD, "of the network's tensors", name)
        shape, wanted = tuple(tensor.shape), tuple(state[name].shape)
        require(shape == wanted, FIELD, f"of shape {wanted} in `{name}`", shape)
        finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        require(finite, FIELD, f"finite in `{name}`", "NaN or infinity")
    for name in state.keys() - tensors.keys():
        in_head = head is not None and name.startswith(f"{head}.")
        require(in_head, FIELD, "of all tensors but the last layer's", f"no {name!r}")
