"""Tensors to start from, out of a file that cannot run anything: safetensors, or a checkpoint of
PyTorch that is read by `weights_only`."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from gradalign_cli.errors import UserError, error_text, os_error_sentence, require
from gradalign_cli.files.reading import open_regular

FIELD = "model.weights"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which checkpoints hold the tensors


def read_tensors(file_path: str) -> dict[str, Tensor]:
    """The tensors, one or more, of the file at this path, by their names. UserError where it is no
    such file."""
    path = Path(file_path)
    require(file_path != "", FIELD, "the path of a file", file_path)
    with open_regular(path) as file:
        filled = os.fstat(file.fileno()).st_size > 0
    require(filled, FIELD, "a file of tensors with names", f"{path}, which is empty")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # of the unpickler's doubts
                content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {os_error_sentence(error, path)}") from error
    except Exception as error:  # a damaged or hostile file can raise anything
        raise UserError(
            f"`{FIELD}` must be a .safetensors file or a checkpoint that holds tensors alone, "
            f"found {file_path!r}: {error_text(error)}"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    are_tensors = isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in content.items()
    )
    require(are_tensors, FIELD, "a file of tensors with names", type(content).__name__)
    require(len(content) > 0, FIELD, "a file of tensors with names", "none")
    return dict(content)


def check_tensors_fit(
    tensors: Mapping[str, Tensor], module: nn.Module, head_name: str | None
) -> None:
    """Raise UserError, naming the tensor, unless a file holds all of a module, and nothing else, in
    its shapes and kinds of numbers. The last layer may be missing, and so may buffers without
    entries in a state."""
    state = module.state_dict()
    for name, tensor in tensors.items():
        require(name in state, FIELD, "of the network's tensors", name)
        check_number_type(name, tensor, state[name])
        shape, wanted = tuple(tensor.shape), tuple(state[name].shape)
        require(shape == wanted, FIELD, f"of shape {wanted} in `{name}`", shape)
        finite = bool(torch.isfinite(tensor.to(state[name].dtype)).all())
        require(finite, FIELD, f"finite in `{name}`", "NaN or infinity")
    for name in state.keys() - tensors.keys():
        in_head = head_name is not None and name.startswith(f"{head_name}.")
        require(in_head, FIELD, "of all tensors but the last layer's", f"no {name!r}")


def check_number_type(name: str, tensor: Tensor, module_tensor: Tensor) -> None:
    """Raise UserError unless a tensor has its numbers one by one in memory, of `FLOATS` where
    `module_tensor` has floats, else of its type or another of whole numbers."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    if tensor.is_quantized or not plain:
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
        raise UserError(f"`{FIELD}` must be of plain numbers in `{name}`, found {kind}")
    if module_tensor.is_floating_point():
        fits, domain = tensor.dtype in FLOATS, "floats"
    else:
        whole = module_tensor.dtype in WHOLE and tensor.dtype in WHOLE
        fits, domain = whole or tensor.dtype == module_tensor.dtype, f"{module_tensor.dtype}"
    require(fits, FIELD, f"of {domain} in `{name}`", tensor.dtype)
