"""Draw every method that has references to docs/gallery, and write docs/gallery.md around it. Needs
no extra."""

from pathlib import Path

from gradalign_cli.commands.explain import load_method, method_svg
from gradalign_cli.commands.list import method_table
from gradalign_cli.composition.choices import first_comment
from gradalign_cli.composition.paths import CONF

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# What each method does to a gradient in the plane

The gradient (black) and its reference on memory (grey) have length 1 and equal losses; the angle
between them turns from 0 to 180 degrees. Orange is the direction that is followed. Methods that
look alike here differ where there are layers, several earlier tasks, or a past.
`python scripts/make_gallery.py` makes this page, `gradalign explain METHOD --picture FILE.svg` one
picture.
"""


def main() -> None:
    """Write the page and its pictures."""
    (DOCS / "gallery").mkdir(exist_ok=True)
    page = HEAD
    for name in method_table(CONF):
        method = load_method(name).method
        if method.references == "nothing":
            continue
        (DOCS / "gallery" / f"{name}.svg").write_text(method_svg(name, method))
        sentence = first_comment(CONF / "method" / f"{name}.yaml")
        page += f"\n{sentence}\n\n![{name}](gallery/{name}.svg)\n"
    (DOCS / "gallery.md").write_text(page)


if __name__ == "__main__":
    main()
