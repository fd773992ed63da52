import torch

from gradalign_cli.numerics.vectors import mean_in_pieces


def test_a_mean_over_many_rows_is_that_of_all_of_them():
    """A few at a time, and a rest."""
    x = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for count in (1, 64, 65, 200):
        found = mean_in_pieces(torch.arange(count), lambda rows: x[rows] ** 2)
        torch.testing.assert_close(found, (x[:count] ** 2).mean(0))
