"""Products: MKL, which PyTorch multiplies matrices with, leaves half of an AMD processor with
AVX-512 idle, and oneDNN, which PyTorch has for convolutions, does not."""

from pathlib import Path

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.shape_prop import ShapeProp

ENOUGH = 2e6  # floating-point operations from which oneDNN's preparation pays
BATCHED = 64  # matrices that are multiplied one by one
aten = torch.ops.aten


def slow_products() -> bool:
    """Whether MKL is slower than oneDNN on this processor."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    about = Path("/proc/cpuinfo")
    return both and wide and about.is_file() and "AuthenticAMD" in about.read_text()


def by_onednn(operations: GraphModule, *given: Tensor) -> GraphModule:
    """The same operations, with large float32 products given to oneDNN, for tensors like those
    given."""
    ShapeProp(operations).propagate(*given)
    graph = operations.graph
    for node in list(graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default, aten.bmm.default):
            continue
        *bias, left, right = node.args
        *batch, rows, inner = size(left)
        columns = size(right)[-1]
        plain = not node.kwargs and all(len(size(b)) == 1 for b in bias)
        large = 2 * rows * inner * columns >= ENOUGH
        single = node.meta["tensor_meta"].dtype == torch.float32
        if not (single and plain and large) or sum(batch) > BATCHED:
            continue
        with graph.inserting_before(node):
            if batch:
                each = [
                    linear(graph, *(graph.call_function(aten.select.int, (m, 0, k)) for m in pair))
                    for k, pair in enumerate([(left, right)] * batch[0])
                ]
                new = graph.call_function(aten.stack.default, (each,))
            else:
                new = linear(graph, left, right, *bias)
        new.meta = node.meta
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        if not batch and [user.target for user in new.users] == [aten.relu.default]:
            (positive,) = new.users
            new.update_arg(3, "relu")  # in the same pass
            positive.replace_all_uses_with(new)
            graph.erase_node(positive)
    operations.recompile()
    return operations


def size(node: Node) -> torch.Size:
    """The shape of what an operation gives."""
    found: torch.Size = node.meta["tensor_meta"].shape
    return found


def linear(graph: Graph, left: Node, right: Node, bias: Node | None = None) -> Node:
    """left @ right (+ bias)."""
    weight = graph.call_function(aten.t.default, (right,))
    linear_ = torch.ops.mkldnn._linear_pointwise.default
    return graph.call_function(linear_, (left, weight, bias, "none", [], ""))
