"""Matrix products by oneDNN. PyTorch's products use MKL, which leaves half of an AMD processor with
AVX-512 idle; oneDNN, which PyTorch uses for convolutions, does not."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.shape_prop import ShapeProp

MIN_FLOPS = 2e6  # floating-point operations of a product; for fewer oneDNN's preparation costs more
MAX_MATRICES = 64  # of a batched product, which become single products
aten = torch.ops.aten


def mkl_is_slow() -> bool:
    """Whether MKL is slower than oneDNN on this processor: an AMD with AVX-512."""
    has_libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    cpu_info = Path("/proc/cpuinfo")
    return (
        has_libraries
        and has_avx512
        and cpu_info.is_file()
        and "AuthenticAMD" in cpu_info.read_text()
    )


def use_onednn(operations: GraphModule, *example_inputs: Tensor) -> GraphModule:
    """Replace, in place, large float32 products by oneDNN's; the operations will get tensors with
    the shapes and types of `example_inputs`."""
    ShapeProp(operations).propagate(*example_inputs)
    graph = operations.graph
    for node in list(graph.nodes):
        if not is_large_matrix_product(node):
            continue
        *bias, left, right = node.args
        is_batched = node.target == aten.bmm.default
        with graph.inserting_before(node):
            if is_batched:
                product = insert_batched_product(graph, left, right)
            else:
                product = insert_product(graph, left, right, *bias)
        product.meta = node.meta
        node.replace_all_uses_with(product)
        graph.erase_node(node)
        if not is_batched and [user.target for user in product.users] == [aten.relu.default]:
            (relu,) = product.users
            product.update_arg(3, "relu")  # oneDNN applies the ReLU with the product
            relu.replace_all_uses_with(product)
            graph.erase_node(relu)
    operations.recompile()
    return operations


def is_large_matrix_product(node: Node) -> bool:
    """Whether an operation is a float32 product that oneDNN computes faster than MKL."""
    if node.target not in (aten.mm.default, aten.addmm.default, aten.bmm.default):
        return False
    *bias, left, right = cast(tuple[Node, ...], node.args)
    *batch, rows, inner = node_shape(left)
    columns = node_shape(right)[-1]
    plain = not node.kwargs and all(len(node_shape(vector)) == 1 for vector in bias)
    large = 2 * rows * inner * columns >= MIN_FLOPS
    is_float32 = node.meta["tensor_meta"].dtype == torch.float32
    return is_float32 and plain and large and sum(batch) <= MAX_MATRICES


def node_shape(node: Node) -> torch.Size:
    """The shape of the result of an operation, after ShapeProp."""
    shape: torch.Size = node.meta["tensor_meta"].shape
    return shape


def insert_product(graph: Graph, left: Node, right: Node, bias: Node | None = None) -> Node:
    """Add oneDNN's left @ right (+ bias), for two matrices, to the graph."""
    weight = graph.call_function(aten.t.default, (right,))
    linear = torch.ops.mkldnn._linear_pointwise.default
    return graph.call_function(linear, (left, weight, bias, "none", [], ""))


def insert_batched_product(graph: Graph, left: Node, right: Node) -> Node:
    """Add left @ right, for batches of matrices, to the graph: oneDNN's products one by one."""
    products = [
        insert_product(
            graph,
            graph.call_function(aten.select.int, (left, 0, k)),
            graph.call_function(aten.select.int, (right, 0, k)),
        )
        for k in range(node_shape(left)[0])
    ]
    return graph.call_function(aten.stack.default, (products,))
