"""A simulated device, to find out without a GPU what a GPU would refuse.

Its tensors hold their values on the CPU, but an operation fails where it mixes them with tensors of
the CPU, or draws them from a generator of the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SIMULATED = torch.device("meta")  # the only device type that needs no driver and no extension
CPU = torch.device("cpu")
COPIES = ("_to_copy", "copy_")  # operations that may mix devices
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # a GPU accepts CPU indices


class SimulatedTensor(Tensor):
    """A tensor on the simulated device, whose values are the tensor `cpu_values`."""

    cpu_values: Tensor

    @staticmethod
    def __new__(cls, cpu_values: Tensor) -> "SimulatedTensor":
        tensor: SimulatedTensor = Tensor._make_wrapper_subclass(
            cls,
            cpu_values.shape,
            strides=cpu_values.stride(),
            storage_offset=cpu_values.storage_offset(),
            dtype=cpu_values.dtype,
            device=SIMULATED,
        )
        tensor.cpu_values = cpu_values
        return tensor

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.cpu_values.untyped_storage()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return operate(function, args, kwargs or {})


class PythonConversionsViaCpu(TorchFunctionMode):
    """Conversions between Python numbers and tensors, which go through the CPU."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and kwargs.get("device") == SIMULATED:
            return function(*args, **kwargs | {"device": CPU}).to(SIMULATED)
        if function is Tensor.new_tensor and args[0].device == SIMULATED:
            return args[0].cpu().new_tensor(*args[1:], **kwargs).to(SIMULATED)
        if function is Tensor.tolist:
            return function(args[0].cpu())
        return function(*args, **kwargs)


class Operations(TorchDispatchMode):
    """All other operations, so that new tensors on the simulated device hold values, too."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return operate(function, args, kwargs or {})


@contextmanager
def simulated_device() -> Iterator[torch.device]:
    """A context in which `SIMULATED` is a device."""
    with PythonConversionsViaCpu(), Operations():
        yield SIMULATED


def operate(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Carry out an operation of PyTorch on the values, or raise RuntimeError where a GPU would."""
    tensors = tensors_among((*args, *kwargs.values()))
    on_device = any(isinstance(tensor, SimulatedTensor) for tensor in tensors)
    on_cpu = any(tensor.dim() for tensor in tensors if not isinstance(tensor, SimulatedTensor))
    name, requested_device = function.overloadpacket.__name__, kwargs.get("device")
    by_index = name in INDEXING and isinstance(args[0], SimulatedTensor)
    if on_device and on_cpu and name not in COPIES and not by_index:
        raise RuntimeError(f"{function} meets tensors of two devices")
    device = requested_device or (SIMULATED if on_device else CPU)
    if device == SIMULATED and kwargs.get("generator") is not None:
        raise RuntimeError(f"{function} on the device draws from a CPU's generator")
    if requested_device:
        kwargs = kwargs | {"device": CPU}
    values_of_names = {key: map_arguments(cpu_values_of, value) for key, value in kwargs.items()}
    result = function(*map_arguments(cpu_values_of, args), **values_of_names)
    written = written_arguments(function, args, kwargs)
    if written and isinstance(result, Tensor):
        if isinstance(written[0], SimulatedTensor) and written[0].shape != result.shape:
            with torch._C._DisableTorchDispatch():  # in-place changes of shape, such as squeeze_
                function(*args, **kwargs)
        return written[0]
    return map_arguments(on_simulated_device, result) if device == SIMULATED else result


def tensors_among(arguments: Any) -> list[Tensor]:
    """The tensors among arguments of an operation, which may be lists of them."""
    tensors: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            tensors.append(argument)
        elif isinstance(argument, list | tuple):
            tensors += tensors_among(argument)
    return tensors


def map_arguments(function: Callable[[Any], Any], argument: Any) -> Any:
    """`function` of an argument or result of an operation, or of all in a list or tuple of them.
    PyTorch's own function for trees of every kind takes several times as long."""
    if isinstance(argument, list | tuple):
        return type(argument)([map_arguments(function, each) for each in argument])
    return function(argument)


def written_arguments(function: Any, args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operation writes into."""
    return [
        args[number] if number < len(args) else kwargs[argument.name]
        for number, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and (number < len(args) or argument.name in kwargs)
    ]


def cpu_values_of(leaf: Any) -> Any:
    """The values of a simulated tensor; anything else as it is."""
    return leaf.cpu_values if isinstance(leaf, SimulatedTensor) else leaf


def on_simulated_device(leaf: Any) -> Any:
    """A tensor as one on the simulated device; anything else as it is."""
    plain = isinstance(leaf, Tensor) and not isinstance(leaf, SimulatedTensor)
    return SimulatedTensor(leaf) if plain else leaf
