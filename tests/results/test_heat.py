"""The accuracy matrix in the terminal is a heat map where the terminal has colours."""

import io

import numpy as np
from rich.console import Console

from gradalign_cli.results.display import matrix_table
from gradalign_cli.results.heat import heat_style


def printed(**options):
    console = Console(file=io.StringIO(), width=60, **options)
    console.print(matrix_table("title", np.array([[[0.0], [1.0]]])))
    return console.file.getvalue()


def test_cells_have_the_colours_of_their_values_in_a_terminal_that_has_colours():
    text = printed(force_terminal=True, color_system="truecolor", no_color=False)
    assert "48;2;0;34;78m" in text
    assert "48;2;254;232;56m" in text


def test_no_colour_is_written_to_a_file_or_where_none_is_wanted():
    assert "48;2" not in printed(force_terminal=False)
    assert "48;2" not in printed(force_terminal=True, no_color=True, color_system="truecolor")


def test_colours_rise_with_the_fraction_and_stay_in_their_range():
    values = [heat_style(share).bgcolor.triplet.red for share in (-1, 0, 0.25, 0.5, 0.75, 1, 2)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 254)
