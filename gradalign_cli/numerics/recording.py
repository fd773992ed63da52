"""Recording the operations of a function, by torch.fx."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import GraphModule


def record(function: Callable[..., Any], *inputs: Tensor) -> GraphModule:
    """The operations that `function` carries out, for tensors of these shapes and types."""
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx  # importing it takes a second

    # make_fx notes the shape of every result in a FakeTensorMode: in one that it is given here,
    # else in a new one for each, which takes as long as all the rest
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function)(*inputs)
