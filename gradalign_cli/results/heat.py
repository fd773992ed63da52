"""Colours of fractions in the terminal, which rich leaves out where the terminal has none."""

from rich.style import Style

# the ends and the middle of the colour map cividis, which colour-blind readers tell apart
DARK, MIDDLE, BRIGHT = (0, 34, 78), (125, 124, 120), (254, 232, 56)
DARKEST_BEHIND_BLACK = 0.55


def heat_style(fraction: float) -> Style:
    """The style of a cell: from dark blue for 0 to yellow for 1, with letters that can be read."""
    share = min(1.0, max(0.0, fraction))
    low, high = (DARK, MIDDLE) if share < 0.5 else (MIDDLE, BRIGHT)
    weight = 2 * share - (share >= 0.5)
    red, green, blue = (round(a + weight * (b - a)) for a, b in zip(low, high, strict=True))
    letters = "black" if share >= DARKEST_BEHIND_BLACK else "bright_white"
    return Style(color=letters, bgcolor=f"rgb({red},{green},{blue})")
