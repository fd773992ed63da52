import pytest
import torch
from torch.nn.functional import normalize

from gradalign_cli.buffers.buffer import Measurements
from gradalign_cli.buffers.gss_greedy import gss_greedy, similarity_scores
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.errors import UserError
from tests.buffers.streams import (
    assert_shares,
    full_memory,
    memories_after_batch,
    memories_by_batch_size,
    memory_after_stream,
)

RUNS = 20000


def cosines(*rows):
    """Cosines [batch, n] of arrivals to stored examples."""
    return torch.tensor(rows, dtype=torch.float64)


def test_a_slot_is_drawn_by_its_score_and_taken_by_the_ratio_of_scores():
    buffer = gss_greedy(4, "total", tasks=1, classes_per_task=1, compared_examples=1)
    scores = torch.tensor([0.2, 0.8, 1.0, 0.0]).double()
    memory = full_memory(buffer, scores.tolist())
    memories = memories_after_batch(buffer, memory, cosines([-0.6]), (), RUNS)
    replaced = memories.rows == 100
    expected = scores / scores.sum() * scores / (scores + 0.4)
    assert_shares(replaced.double().mean(0), expected, RUNS)
    torch.testing.assert_close(memories.scores, torch.where(replaced, 0.4, scores))


def test_of_equal_scores_every_example_is_lost_at_one_rate():
    buffer = gss_greedy(5, "total", tasks=1, classes_per_task=1, compared_examples=1)
    memory = full_memory(buffer, [0.5] * 5)
    memories = memories_after_batch(buffer, memory, cosines([-0.5]).repeat(12, 1), (), RUNS)
    assert_shares((memories.rows < 100).double().mean(0), [(1 - 1 / 10) ** 12] * 5, RUNS)


def test_what_agrees_with_a_stored_example_does_not_enter_a_full_memory():
    buffer = gss_greedy(3, "total", tasks=1, classes_per_task=1, compared_examples=2)
    memory = full_memory(buffer, [2.0, 2.0, 2.0])
    for arrival_cosines in ([0.01, -0.01], [-1.0, 1.0], [0.0, -0.5]):
        memories = memories_after_batch(buffer, memory, cosines(arrival_cosines), (), 100)
        assert (memories.rows < 100).all()
    memories = memories_after_batch(buffer, memory, cosines([-0.01, -0.5]), (), 100)
    assert (memories.rows == 100).any()


def test_a_score_is_one_and_the_largest_cosine_to_a_stored_example():
    measured = cosines([-0.5, 0.9], [0.3, -0.6])
    measurements = Measurements(measured, (), torch.zeros(2).long(), torch.ones(2))
    assert similarity_scores(measurements).tolist() == pytest.approx([1.9, 1.3])
    # padding does not count
    half_valid = measurements._replace(valid=torch.tensor([1.0, 0.0]))
    assert similarity_scores(half_valid).tolist() == [0.5, 1.3]
    assert similarity_scores(measurements._replace(valid=torch.zeros(2))).tolist() == [1.0, 1.0]


def test_while_slots_are_empty_every_example_is_stored_with_its_score():
    buffer = gss_greedy(9, "total", tasks=1, classes_per_task=1, compared_examples=4)
    class_in_task = torch.zeros(7).long()
    memory = memory_after_stream(buffer, torch.ones(7, 2), class_in_task, seed=0, batch_size=3)
    assert memory.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert memory.scores.tolist() == [1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_the_size_of_the_batches_does_not_matter():
    """Where the arrivals are compared with the same stored examples."""
    buffer = gss_greedy(5, "total", tasks=1, classes_per_task=1, compared_examples=1)
    of_arrivals = cosines(*([-0.02 * n] for n in range(40)))
    first, *others = memories_by_batch_size(buffer, of_arrivals, torch.zeros(40).long(), ())
    assert first.rows.max() > 5
    for memory in others:
        assert torch.equal(memory.rows, first.rows)
        assert torch.equal(memory.scores, first.scores)


def test_rare_gradients_are_stored_among_many_near_duplicates():
    """Of 400 gradients 20 point elsewhere; a reservoir of 10 stores half of one in the mean."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.eye(16)[0] + 0.02 * torch.randn(400, 16, generator=generator)
    rare = torch.arange(5, 400, 20)
    orthogonal = normalize(torch.randn(20, 15, generator=generator), dim=1)
    gradients[rare] = torch.cat([torch.full((20, 1), -0.5), orthogonal], 1)

    def stored_rare_examples(buffer):
        memories = [
            memory_after_stream(buffer, gradients, torch.zeros(400).long(), seed)
            for seed in range(20)
        ]
        return sum(int(torch.isin(memory.rows, rare).sum()) for memory in memories) / 20

    plain = reservoir(10, "total", tasks=1, classes_per_task=1)._replace(measured_examples=5)
    assert stored_rare_examples(plain) < 1
    assert (
        stored_rare_examples(
            gss_greedy(10, "total", tasks=1, classes_per_task=1, compared_examples=5)
        )
        > 3
    )


def test_there_must_be_something_to_compare_with():
    with pytest.raises(UserError, match=r"`buffer.compared_examples` must be positive, found 0"):
        gss_greedy(4, "total", tasks=1, classes_per_task=1, compared_examples=0)
