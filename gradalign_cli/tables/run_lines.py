"""A line for every run of a table that is on."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gradalign_cli.results.durations import duration_text


class RunLines:
    """Says when runs start and end, and shows on a terminal a live line for each that is on."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.on: dict[str, tuple[float, float | None]] = {}  # start, and estimated seconds
        self.live = Live(
            console=console, get_renderable=self.live_lines, transient=True, refresh_per_second=1
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.live.stop()

    def begin(self, run_name: str, estimated_minutes: float | None) -> None:
        """A run starts;  estimated_minutes: that it may take, by its estimate."""
        self.say(f"{run_name}: running")
        self.on[run_name] = (
            self.clock(),
            None if estimated_minutes is None else 60 * estimated_minutes,
        )

    def end(self, run_name: str, how: str | None = None) -> None:
        """A run is finished, or ended in another way, such as "failed: ..."."""
        start, _ = self.on.pop(run_name)
        self.say(f"{run_name}: {how or f'finished in {duration_text(self.clock() - start)}'}")

    def say(self, text: str) -> None:
        """Print a line above the live ones."""
        self.console.print(text, soft_wrap=True)

    def live_lines(self) -> Group:
        """The live lines, each cut to the terminal's width; how long a run is on stays, the name
        is cut first."""
        texts = []
        for name, (start, estimate) in list(self.on.items()):
            length = f" of about {duration_text(estimate)}" if estimate is not None else ""
            end = f": {duration_text(self.clock() - start)}{length}"
            name_text = Text(name)
            name_text.truncate(max(1, self.console.width - len(end)), overflow="ellipsis")
            texts.append(Text.assemble(name_text, end, no_wrap=True))
        return Group(*texts)
