"""The console that commands print to."""

from typing import Any

from rich.console import Console
from rich.text import Text

from gradalign_cli.results.plain_characters import in_encoding


class TerminalConsole(Console):
    """A console that lays out text as it will be shown, with plain characters where the terminal's
    encoding does not have others."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as rich lays it out."""
        return super().render_str(in_encoding(text, self.encoding), **options)


def terminal_console(width: int | None = None, highlight: bool = True) -> Console:
    """A console that prints text as it is: brackets in paths and messages are no markup, and
    `:name:` is no emoji."""
    return TerminalConsole(width=width, highlight=highlight, markup=False, emoji=False)
