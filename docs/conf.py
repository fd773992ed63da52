"""How Sphinx builds the site; `python scripts/make_site.py DEST` runs it."""

project = "gradalign"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "gradalign"
html_show_sphinx = False
html_show_copyright = False
exclude_patterns = ["results"]


def setup(app):
    """Show the diagram of docs/design.md as its text, where no program draws it."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("mermaid", TextLexer)
