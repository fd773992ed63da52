"""The picture of a method: an SVG of what becomes of a gradient as its reference turns away."""

import math
from collections.abc import Sequence

from torch import Tensor

SIDE, LONGEST = 120, 50  # of a panel, and of the longest arrow in it, in pixels
COLOURS = {"direction": "#e6550d", "reference": "#999999", "gradient": "#000000"}
WIDTHS = {"direction": 6, "reference": 3, "gradient": 1}  # all are seen where they coincide


def arrow(kind: str, centre: float, x: float, y: float) -> str:
    """An arrow (x, y) from the middle of a panel; a dot where it has no length."""
    length, half = math.hypot(x, y), WIDTHS[kind] / 2
    if length < 1:
        return f'<circle cx="{centre:g}" cy="{SIDE / 2:g}" r="{half:g}" fill="{COLOURS[kind]}"/>\n'
    neck = max(length - half - 5, 0)
    side = [(0, half), (neck, half), (neck, half + 3)]
    points = [*side, (length, 0), *((a, -b) for a, b in reversed(side))]
    return (
        f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" '
        f'fill="{COLOURS[kind]}" transform="translate({centre:g} {SIDE / 2:g}) '
        f'rotate({-math.degrees(math.atan2(y, x)):.1f})"/>\n'
    )


def panels(name: str, angles: Sequence[int], directions: Tensor) -> str:
    """The SVG of directions [A, 2] for g = (1, 0) and references of length 1 at angles."""
    unit = LONGEST / max(1.0, float(directions.norm(dim=1).max()))
    drawn = ""
    for number, (degrees, (x, y)) in enumerate(zip(angles, directions.tolist(), strict=True)):
        centre, turn = SIDE * (number + 0.5), math.radians(degrees)
        drawn += arrow("direction", centre, unit * x, unit * y)
        drawn += arrow("reference", centre, unit * math.cos(turn), unit * math.sin(turn))
        drawn += arrow("gradient", centre, unit, 0)
        drawn += f'<text x="{centre:g}" y="{SIDE + 12}" text-anchor="middle">{degrees}°</text>\n'
    width, height = SIDE * len(angles), SIDE + 40
    key = "".join(f'<tspan dx="12" fill="{c}">{kind}</tspan>' for kind, c in COLOURS.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{drawn}'
        f'<text x="8" y="{height - 8}"><tspan font-weight="bold">{name}</tspan>{key}</text>\n'
        "</svg>\n"
    )
