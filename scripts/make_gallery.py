"""Draw every method that has references to docs/gallery, all of them in one figure,
docs/gallery/overview.svg, and write docs/gallery.md around them. Needs no extra."""

from pathlib import Path

import torch

from gradalign_cli.commands.explain import (
    TABLE_ANGLES,
    directions_at_angles,
    load_method,
    method_svg,
)
from gradalign_cli.commands.list import method_table
from gradalign_cli.composition.choices import first_comment
from gradalign_cli.composition.paths import CONF
from gradalign_cli.methods.method import Method

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# What each method does to a gradient in the plane

The gradient (black) and its reference on memory (grey) have length 1 and equal losses; the angle
between them turns from 0 to 180 degrees. Orange is the direction that is followed. Methods that
look alike here differ where there are layers, several earlier tasks, or a past.
`python scripts/make_gallery.py` makes this page, `gradalign explain METHOD --picture FILE.svg` one
picture.

![all methods side by side, grouped by what they do](gallery/overview.svg)
"""
ON_CONFLICT, KEEPS_LENGTH, ALWAYS = (
    "act on a conflict alone: below 90° they follow the gradient",
    "act always, and keep the gradient's length",
    "act always, and change its length",
)
WIDTH, HEIGHT, COLUMNS, HEADING, GAP = 560, 107, 2, 34, 16  # in pixels


def drawn_methods() -> dict[str, Method]:
    """The methods with references, by name."""
    methods = {name: load_method(name).method for name in method_table(CONF)}
    return {name: each for name, each in methods.items() if each.references != "nothing"}


def behaviour(method: Method) -> str:
    """What a method does to a gradient, by the directions that it makes in the plane."""
    directions = directions_at_angles(method, TABLE_ANGLES)
    harmless = [degrees <= 90 for degrees in TABLE_ANGLES]
    gradient = torch.tensor([1.0, 0.0], dtype=directions.dtype)
    if torch.allclose(directions[harmless], gradient.expand(sum(harmless), 2)):
        return ON_CONFLICT
    lengths = directions.norm(dim=1)
    return KEEPS_LENGTH if torch.allclose(lengths, torch.ones_like(lengths)) else ALWAYS


def overview(methods: dict[str, Method]) -> str:
    """The SVG of all methods side by side, grouped by their behaviour."""
    parts, top = [], 0
    for group in (ON_CONFLICT, KEEPS_LENGTH, ALWAYS):
        names = [name for name, method in methods.items() if behaviour(method) == group]
        if not names:
            continue
        parts.append(f'<text x="8" y="{top + 22}" font-size="16" font-weight="bold">{group}</text>')
        top += HEADING
        for number, name in enumerate(names):
            x, y = number % COLUMNS * (WIDTH + GAP), top + number // COLUMNS * HEIGHT
            place = f'<svg x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" '
            parts.append(method_svg(name, methods[name]).replace("<svg ", place, 1).strip())
        top += -(-len(names) // COLUMNS) * HEIGHT + GAP
    width = COLUMNS * WIDTH + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" '
        f'font-family="sans-serif">\n<rect width="{width}" height="{top}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """Write the page and its pictures."""
    (DOCS / "gallery").mkdir(exist_ok=True)
    page, methods = HEAD, drawn_methods()
    for name, method in methods.items():
        (DOCS / "gallery" / f"{name}.svg").write_text(method_svg(name, method))
        sentence = first_comment(CONF / "method" / f"{name}.yaml")
        page += f"\n{sentence}\n\n![{name}](gallery/{name}.svg)\n"
    (DOCS / "gallery" / "overview.svg").write_text(overview(methods))
    (DOCS / "gallery.md").write_text(page)


if __name__ == "__main__":
    main()
