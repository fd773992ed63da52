"""Durations in words."""


def duration_text(seconds: float) -> str:
    """A duration in words."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * size:
            count = seconds / size
            return (
                f"{count:.1f} {unit}s"
                if count < 9.5 and unit != "minute"
                else f"{count:.0f} {unit}s"
            )
    return f"{seconds:.0f} seconds"
