"""Small changes of a Python file, for mutate.py: each makes a mutant.

A comparison or an operator is exchanged for its neighbour, a number for the next, a function for
its opposite, the first two arguments for one another; a call or a sign is left out, a statement
deleted. Texts, annotations, decorators and the arguments of error messages stay as they are.
"""

import ast
import re
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

SWAPS = "Add Sub, Mult Div, BitAnd BitOr, And Or, Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn"
OPPOSITES = (
    "min max, amin amax, argmin argmax, minimum maximum, clamp_min clamp_max, any all, sum mean"
)
REMOVABLE = "clamp clamp_min clamp_max abs sqrt square detach clone exp log flip sort cumsum"
SYMMETRIC = "max min maximum minimum dot require isinstance zip logical_and logical_or"
FORMAL = "strict dtype device generator"  # keywords whose value is not computed with


class Mutant(NamedTuple):
    """A file with one change."""

    file: Path
    line: int
    before: str
    after: str
    source: str


def either_way(pairs: str) -> dict[str, str]:
    """Each word of the pairs "a b, c d", and the other of its pair."""
    split = [pair.split() for pair in pairs.split(", ")]
    return {a: b for pair in split for a, b in (pair, pair[::-1])}


def computing_nodes(node: ast.AST) -> Iterator[Any]:
    """The nodes below one that compute: no annotations, decorators, texts and messages."""
    for name, value in ast.iter_fields(node):
        message = name == "args" and ast.unparse(node).startswith("require(")
        parts = value if isinstance(value, list) else [value]
        for part in parts[:1] if message else parts:
            formal = isinstance(part, ast.keyword) and part.arg in FORMAL.split()
            if formal or name in ("annotation", "returns", "decorator_list"):
                continue
            if isinstance(part, ast.AST) and not isinstance(part, ast.Raise | ast.JoinedStr):
                yield part
                yield from computing_nodes(part)


def changed(node: Any, **fields: Any) -> Any:
    """A copy of a node with other fields."""
    other = copy(node)
    other.__dict__.update(fields)
    return other


def changes(node: Any) -> Iterator[ast.AST]:
    """All small changes of a node itself."""
    swaps, opposites = either_way(SWAPS), either_way(OPPOSITES)
    kind = type(getattr(node, "op", (getattr(node, "ops", None) or [None])[0])).__name__
    match node:
        case ast.BinOp() | ast.BoolOp() if kind in swaps:
            yield changed(node, op=getattr(ast, swaps[kind])())
        case ast.Compare() if kind in swaps:
            yield changed(node, ops=[getattr(ast, swaps[kind])(), *node.ops[1:]])
            if len(node.ops) == 1:
                yield ast.UnaryOp(ast.Not(), node)
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool()):
            yield changed(node, value=not node.value)
        case ast.Constant(value=int() | float() as number):
            yield changed(node, value=0 if number == 1 else number + 1)
        case ast.IfExp():
            yield changed(node, body=node.orelse, orelse=node.body)
        case ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Call():
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in opposites:
                field = "id" if isinstance(node.func, ast.Name) else "attr"
                yield changed(node, func=changed(node.func, **{field: opposites[name]}))
            if name in REMOVABLE.split() and isinstance(node.func, ast.Attribute):
                yield node.args[0] if ast.unparse(node.func.value) == "torch" else node.func.value
            if len(node.args) > 1 and name not in SYMMETRIC.split():
                yield changed(node, args=[node.args[1], node.args[0], *node.args[2:]])


def mutants_of(root: Path, file: Path) -> Iterator[Mutant]:
    """Every small change of a file of the project in `root`."""
    source = (root / file).read_bytes()
    starts = [0, *(newline.end() for newline in re.finditer(b"\n", source))]
    tree = ast.parse(source)
    for node in computing_nodes(tree):
        for change in changes(node):
            if ast.dump(change) == ast.dump(node):
                continue
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            text = ast.unparse(change)
            text = text if isinstance(change, ast.Pass) else f"({text})"
            whole = (source[:start] + text.encode() + source[end:]).decode()
            yield Mutant(file, node.lineno, source[start:end].decode(), text, whole)
