"""The picture of a method: the direction it follows as the reference turns away from the gradient.

A picture is an SVG with a panel for each angle between gradient and reference.
"""

import math
from collections.abc import Sequence

from torch import Tensor

PANEL_SIDE, LONGEST_ARROW = 120, 50  # in pixels
COLOURS = {"direction": "#e6550d", "reference": "#999999", "gradient": "#000000"}
WIDTHS = {"direction": 6, "reference": 3, "gradient": 1}  # all are seen where they coincide


def arrow(kind: str, centre_x: float, dx: float, dy: float) -> str:
    """The SVG of an arrow (dx, dy) in pixels, dy upwards, from the middle of a panel; a dot where
    it is shorter than a pixel.

    kind: direction, reference or gradient.
    """
    length, half_width = math.hypot(dx, dy), WIDTHS[kind] / 2
    if length < 1:
        return (
            f'<circle cx="{centre_x:g}" cy="{PANEL_SIDE / 2:g}" r="{half_width:g}" '
            f'fill="{COLOURS[kind]}"/>\n'
        )
    shaft = max(length - half_width - 5, 0)
    upper_side = [(0, half_width), (shaft, half_width), (shaft, half_width + 3)]
    lower_side = [(along, -across) for along, across in reversed(upper_side)]
    points = [*upper_side, (length, 0), *lower_side]
    return (
        f'<polygon points="{" ".join(f"{along:.1f},{across:.1f}" for along, across in points)}" '
        f'fill="{COLOURS[kind]}" transform="translate({centre_x:g} {PANEL_SIDE / 2:g}) '
        f'rotate({-math.degrees(math.atan2(dy, dx)):.1f})"/>\n'
    )


def direction_panels(method_name: str, angles: Sequence[int], directions: Tensor) -> str:
    """The SVG of the directions [A, 2] that a method makes of g = (1, 0) and references of length 1
    at A angles, in degrees. One scale is chosen for all panels."""
    pixels_per_unit = LONGEST_ARROW / max(1.0, float(directions.norm(dim=1).max()))
    panels = ""
    for number, (degrees, (x, y)) in enumerate(zip(angles, directions.tolist(), strict=True)):
        centre_x, angle = PANEL_SIDE * (number + 0.5), math.radians(degrees)
        reference_x = pixels_per_unit * math.cos(angle)
        reference_y = pixels_per_unit * math.sin(angle)
        panels += arrow("direction", centre_x, pixels_per_unit * x, pixels_per_unit * y)
        panels += arrow("reference", centre_x, reference_x, reference_y)
        panels += arrow("gradient", centre_x, pixels_per_unit, 0)
        panels += (
            f'<text x="{centre_x:g}" y="{PANEL_SIDE + 12}" text-anchor="middle">{degrees}°</text>\n'
        )
    width, height = PANEL_SIDE * len(angles), PANEL_SIDE + 40
    key = "".join(
        f'<tspan dx="12" fill="{colour}">{kind}</tspan>' for kind, colour in COLOURS.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{panels}'
        f'<text x="8" y="{height - 8}"><tspan font-weight="bold">{method_name}</tspan>{key}'
        "</text>\n</svg>\n"
    )
