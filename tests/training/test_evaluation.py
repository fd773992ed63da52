"""Test sets are cut into pieces that differ by one row at most."""

import pytest
import torch

from gradalign_cli.training.evaluation import TEST_BATCH, even_pieces


@pytest.mark.parametrize(
    "count", [1, 2, TEST_BATCH, TEST_BATCH + 1, 2 * TEST_BATCH + 1, 5 * TEST_BATCH]
)
def test_no_piece_is_too_large_and_none_is_a_single_row_left_over(count):
    rows = torch.arange(3 * count).view(3, count)
    pieces = even_pieces(rows, 1)
    sizes = [piece.shape[1] for piece in pieces]
    assert torch.equal(torch.cat(pieces, 1), rows)
    assert len(pieces) == -(-count // TEST_BATCH)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= TEST_BATCH
