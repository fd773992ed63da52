"""A line for every run that is on."""

from rich.console import Console

from gradalign_cli.tables.run_lines import RunLines


def test_every_run_that_is_on_has_a_line_that_keeps_its_times_on_a_narrow_terminal():
    now = [0.0]
    for width in (100, 40):
        lines = RunLines(Console(width=width, record=True), lambda: now[0])
        lines.begin("Permuted MNIST, A-GEM with a long name", 12)
        now[0] += 30
        lines.begin("GEM", None)
        now[0] += 40
        with lines.console.capture() as capture:
            lines.console.print(lines.live_lines())
        first, second = capture.get().splitlines()
        assert first.endswith(": 70 seconds of about 12 minutes")
        assert len(first) <= width
        assert second == "GEM: 40 seconds"
        lines.end("GEM")
        with lines.console.capture() as capture:
            lines.console.print(lines.live_lines())
        assert "GEM: 40" not in capture.get()


def test_without_a_terminal_starts_and_ends_are_lines_and_nothing_is_live():
    console = Console(width=80, record=True, force_terminal=False)
    with console.capture() as capture, RunLines(console, lambda: 0.0) as lines:
        lines.begin("A", 1)
        lines.begin("B", None)
        lines.end("A")
        lines.end("B", "failed: gradalign: no")
    assert (
        capture.get()
        == "A: running\nB: running\nA: finished in 0 seconds\nB: failed: gradalign: no\n"
    )
