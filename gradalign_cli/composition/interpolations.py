"""A bound on what the interpolations of a config become, before they are put in."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from gradalign_cli.errors import UserError

LARGEST_CONFIG = 2**20  # characters, with the interpolations put in
MOST_INTERPOLATIONS = 1000
LONGEST_CHAIN = 30  # interpolations that lead one to the next
RESOLVERS = (
    "oc.select",
    "oc.env",
    "hydra",
    "now",
    "unique",
    "job_folder",
    "hydra_override_dirname",
)
INNERMOST = re.compile(r"\$\{([^${}]*)\}")


class ExpandedSize(NamedTuple):
    """characters: of a value with its interpolations put in;  chain_length: how many
    interpolations lead one to the next until there are none."""

    characters: int
    chain_length: int


def check_interpolations_are_safe(config: Mapping[str, Any]) -> None:
    """Raise UserError where interpolations would make a config very large, as a chain does of which
    each link holds the next one twice, or where one calls a function that is not in `RESOLVERS`.

    config: plain values, with the interpolations as they are. A cycle is left to OmegaConf.
    """
    texts = dict(paths_and_values_as_text("", config))
    if sum("${" in text for text in texts.values()) > MOST_INTERPOLATIONS:
        raise UserError(f"a config must have at most {MOST_INTERPOLATIONS} interpolations")
    size_of_path: dict[str, ExpandedSize] = {}
    for path in texts:
        expanded_size(path, texts, (), size_of_path)
    if sum(size.characters for size in size_of_path.values()) > LARGEST_CONFIG:
        raise UserError("the interpolations of a config must not make it larger than 1 MiB")


def paths_and_values_as_text(path: str, node: Any) -> Iterator[tuple[str, str]]:
    """The dotted path of every value of a tree, and the value as text."""
    if isinstance(node, Mapping | list):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in pairs:
            yield from paths_and_values_as_text(f"{path}.{name}" if path else str(name), value)
    else:
        yield path, str(node)


def expanded_size(
    path: str,
    texts: Mapping[str, str],
    chain: tuple[str, ...],
    size_of_path: dict[str, ExpandedSize],
) -> ExpandedSize:
    """The size of a value once its interpolations are put in.

    chain: the paths of the values that lead to this one;  size_of_path: those of earlier values.
    """
    if path in chain:
        return ExpandedSize(0, 0)
    if len(chain) > LONGEST_CHAIN:
        raise UserError(f"`{chain[0]}` must not lead from one interpolation to the next so often")
    if path not in size_of_path:
        references = references_of(path, texts[path])
        targets = [target for name in references for target in texts if refers_to(name, target)]
        inner = [expanded_size(target, texts, (*chain, path), size_of_path) for target in targets]
        characters = len(texts[path]) + sum(size.characters for size in inner)
        size_of_path[path] = ExpandedSize(
            characters, 1 + max((e.chain_length for e in inner), default=0)
        )
    if len(chain) + size_of_path[path].chain_length > LONGEST_CHAIN:
        raise UserError(f"`{path}` must not lead from one interpolation to the next so often")
    return size_of_path[path]


def refers_to(reference: str, path: str) -> bool:
    """Whether a reference is to the value at a path or to what it stands in."""
    if "*" in reference:
        return fnmatchcase(path, reference + "*")
    return path == reference or path.startswith(reference + ".")


def references_of(path: str, text: str) -> list[str]:
    """The paths that a value's interpolations name, with * for a part that an inner one gives."""
    references = []
    while match := INNERMOST.search(text):
        resolver, colon, rest = match[1].partition(":")
        if colon and resolver.strip() not in RESOLVERS:
            raise UserError(f"`{path}` must not use the resolver {resolver.strip()!r}")
        if resolver.strip() == "oc.select":
            names = rest.split(",")
        elif colon:
            names = [f"hydra.{rest}"] if resolver.strip() == "hydra" else []
        else:
            names = [match[1]]
        references += [absolute_reference(name.strip(" '\""), path) for name in names]
        text = text[: match.start()] + "*" + text[match.end() :]
    return references


def absolute_reference(reference: str, path: str) -> str:
    """A reference without the leading dots, each of which goes up by one from the value's path."""
    name = reference.lstrip(".").replace("[", ".").replace("]", "")
    dots = len(reference) - len(reference.lstrip("."))
    parents = path.split(".")[:-dots] if dots else []
    return ".".join([*parents, name])
