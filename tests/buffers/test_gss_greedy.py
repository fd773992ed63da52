import pytest
import torch
from torch.nn.functional import normalize

from gradalign_cli.buffers.buffer import Measurements
from gradalign_cli.buffers.gss_greedy import gss_greedy, likeness
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.errors import UserError
from tests.buffers.streams import agrees, feed_known, full_memory, in_batches, offer

RUNS = 20000


def cosines(*rows):
    """Of arrivals to stored examples."""
    return torch.tensor(rows, dtype=torch.float64)


def test_a_slot_is_drawn_by_its_score_and_taken_by_the_ratio_of_scores():
    buffer = gss_greedy(4, "total", tasks=1, classes=1, compared=1)
    score = torch.tensor([0.2, 0.8, 1.0, 0.0]).double()
    memory = full_memory(buffer, score.tolist())
    after = offer(buffer, memory, cosines([-0.6]), (), RUNS)
    new = after.rows == 100
    agrees(new.double().mean(0), score / score.sum() * score / (score + 0.4), RUNS)
    expected = torch.where(new, 0.4, score)
    torch.testing.assert_close(after.scores, expected)


def test_of_equal_scores_every_example_is_lost_at_one_rate():
    buffer = gss_greedy(5, "total", tasks=1, classes=1, compared=1)
    memory = full_memory(buffer, [0.5] * 5)
    after = offer(buffer, memory, cosines([-0.5]).repeat(12, 1), (), RUNS)
    agrees((after.rows < 100).double().mean(0), [(1 - 1 / 10) ** 12] * 5, RUNS)


def test_what_agrees_with_a_stored_example_does_not_enter_a_full_memory():
    buffer = gss_greedy(3, "total", tasks=1, classes=1, compared=2)
    memory = full_memory(buffer, [2.0, 2.0, 2.0])
    for own in ([0.01, -0.01], [-1.0, 1.0], [0.0, -0.5]):
        assert (offer(buffer, memory, cosines(own), (), 100).rows < 100).all()
    assert (offer(buffer, memory, cosines([-0.01, -0.5]), (), 100).rows == 100).any()


def test_likeness_is_one_and_the_largest_cosine_to_what_is_stored():
    seen = Measurements(cosines([-0.5, 0.9], [0.3, -0.6]), (), torch.zeros(2).long(), torch.ones(2))
    assert likeness(seen).tolist() == pytest.approx([1.9, 1.3])
    # what only fills a place does not count
    assert likeness(seen._replace(valid=torch.tensor([1.0, 0.0]))).tolist() == [0.5, 1.3]
    assert likeness(seen._replace(valid=torch.zeros(2))).tolist() == [1.0, 1.0]


def test_while_there_is_room_everything_is_kept_with_its_likeness():
    buffer = gss_greedy(9, "total", tasks=1, classes=1, compared=4)
    known = torch.ones(7, 2)
    memory = feed_known(buffer, known, torch.zeros(7).long(), seed=0, batch=3)
    assert memory.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert memory.scores.tolist() == [1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_the_size_of_the_batches_does_not_matter():
    """Where the arrivals are compared with the same stored examples."""
    buffer = gss_greedy(5, "total", tasks=1, classes=1, compared=1)
    known = cosines(*([-0.02 * n] for n in range(40)))
    one, seven, all_at_once = in_batches(buffer, known, torch.zeros(40).long(), ())
    assert one.row.max() > 5
    for other in (seven, all_at_once):
        assert torch.equal(other.row, one.row)
        assert torch.equal(other.score, one.score)


def test_a_few_others_are_kept_among_many_near_duplicates():
    """Of 400 gradients 20 point elsewhere; a reservoir of 10 keeps half of one in the mean."""
    source = torch.Generator().manual_seed(0)
    known = torch.eye(16)[0] + 0.02 * torch.randn(400, 16, generator=source)
    other = torch.arange(5, 400, 20)
    apart = normalize(torch.randn(20, 15, generator=source), dim=1)
    known[other] = torch.cat([torch.full((20, 1), -0.5), apart], 1)
    kept = {}
    for make in (gss_greedy, reservoir):
        more = {"compared": 5} if make is gss_greedy else {}
        buffer = make(10, "total", tasks=1, classes=1, **more)._replace(measured_examples=5)
        found = [feed_known(buffer, known, torch.zeros(400).long(), seed) for seed in range(20)]
        kept[make] = sum(int(torch.isin(m.rows, other).sum()) for m in found) / 20
    assert kept[reservoir] < 1
    assert kept[gss_greedy] > 3


def test_there_must_be_something_to_compare_with():
    with pytest.raises(UserError, match=r"`buffer.compared` must be positive, found 0"):
        gss_greedy(4, "total", tasks=1, classes=1, compared=0)
