import pytest
import torch
from torch.nn.functional import normalize

from gradalign_cli.buffers.buffer import Arrivals, Measurements
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
    buffer = gss_greedy(
        4, "total", tasks=1, classes_per_task=1, compared_examples=1, admission="example"
    )
    scores = torch.tensor([0.2, 0.8, 1.0, 0.0]).double()
    memory = full_memory(buffer, scores.tolist())
    memories = memories_after_batch(buffer, memory, cosines([-0.6]), (), RUNS)
    replaced = memories.rows == 100
    expected = scores / scores.sum() * scores / (scores + 0.4)
    assert_shares(replaced.double().mean(0), expected, RUNS)
    torch.testing.assert_close(memories.scores, torch.where(replaced, 0.4, scores))


def test_of_equal_scores_every_example_is_lost_at_one_rate():
    buffer = gss_greedy(
        5, "total", tasks=1, classes_per_task=1, compared_examples=1, admission="example"
    )
    memory = full_memory(buffer, [0.5] * 5)
    memories = memories_after_batch(buffer, memory, cosines([-0.5]).repeat(12, 1), (), RUNS)
    assert_shares((memories.rows < 100).double().mean(0), [(1 - 1 / 10) ** 12] * 5, RUNS)


def test_what_agrees_with_a_stored_example_does_not_enter_a_full_memory():
    buffer = gss_greedy(
        3, "total", tasks=1, classes_per_task=1, compared_examples=2, admission="example"
    )
    memory = full_memory(buffer, [2.0, 2.0, 2.0])
    for arrival_cosines in ([0.01, -0.01], [-1.0, 1.0], [0.0, -0.5]):
        memories = memories_after_batch(buffer, memory, cosines(arrival_cosines), (), 100)
        assert (memories.rows < 100).all()
    memories = memories_after_batch(buffer, memory, cosines([-0.01, -0.5]), (), 100)
    assert (memories.rows == 100).any()


def test_a_score_is_one_and_the_largest_cosine_to_a_stored_example():
    measured = cosines([-0.5, 0.9], [0.3, -0.6])
    assert similarity_scores(measured, torch.ones(2), 1.0).tolist() == pytest.approx([1.9, 1.3])
    # padding does not count
    assert similarity_scores(measured, torch.tensor([1.0, 0.0]), 1.0).tolist() == [0.5, 1.3]
    assert similarity_scores(measured, torch.zeros(2), 1.0).tolist() == [1.0, 1.0]


def test_while_slots_are_empty_every_example_is_stored_with_its_score():
    buffer = gss_greedy(
        9, "total", tasks=1, classes_per_task=1, compared_examples=4, admission="example"
    )
    class_in_task = torch.zeros(7).long()
    memory = memory_after_stream(buffer, torch.ones(7, 2), class_in_task, seed=0, batch_size=3)
    assert memory.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert memory.scores.tolist() == [1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_the_size_of_the_batches_does_not_matter():
    """Where the arrivals are compared with the same stored examples."""
    buffer = gss_greedy(
        5, "total", tasks=1, classes_per_task=1, compared_examples=1, admission="example"
    )
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
            gss_greedy(
                10, "total", tasks=1, classes_per_task=1, compared_examples=5, admission="example"
            )
        )
        > 3
    )


def test_there_must_be_something_to_compare_with():
    with pytest.raises(UserError, match=r"`buffer.compared_examples` must be positive, found 0"):
        gss_greedy(
            4, "total", tasks=1, classes_per_task=1, compared_examples=0, admission="example"
        )


def memory_after_batch(buffer, memory, of_arrivals, of_batch, seed):
    """The memory after a batch with these cosines [batch, n] and those [n] of its mean gradient."""
    count, compared = of_arrivals.shape
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, 2, generator=generator)
    valid = torch.ones(compared)
    measured = Measurements(of_arrivals, (), torch.zeros(compared).long(), valid, of_batch)
    rows, zeros = torch.arange(100, 100 + count), torch.zeros(count).long()
    return buffer.insert(
        memory, Arrivals(rows, zeros, zeros, uniform, torch.zeros(count, 0), measured)
    )


def test_by_batch_the_mean_gradient_opens_and_closes_a_full_memory_to_all_arrivals():
    buffer = gss_greedy(3, "total", 1, 1, compared_examples=1, admission="batch")
    memory = full_memory(buffer, [2.0, 2.0, 2.0])
    of_arrivals = cosines([-0.9], [0.5])
    closed = [
        memory_after_batch(buffer, memory, of_arrivals, cosines([0.0])[0], s) for s in range(30)
    ]
    opened = [
        memory_after_batch(buffer, memory, of_arrivals, cosines([-0.1])[0], s) for s in range(30)
    ]
    assert all(after.rows.max() < 100 for after in closed)
    entered = torch.cat([after.rows[after.rows >= 100] for after in opened])
    assert entered.unique().tolist() == [100, 101]
    for after in opened:  # each with its own score
        expected = torch.tensor([{100: 0.1, 101: 1.5}.get(row, 2.0) for row in after.rows.tolist()])
        torch.testing.assert_close(after.scores, expected.double())


def test_by_batch_an_example_has_the_score_of_its_batch_while_slots_are_empty():
    buffer = gss_greedy(5, "total", 1, 1, compared_examples=1, admission="batch")
    memory = memory_after_batch(buffer, buffer.init(), cosines([0.3], [0.4]), cosines([0.7])[0], 0)
    assert memory.rows.tolist() == [100, 101, -1, -1, -1]
    assert memory.scores.tolist() == pytest.approx([1.7, 1.7, 0, 0, 0])


def test_of_batches_of_one_both_forms_of_admission_are_the_same():
    memories = []
    for admission in ("example", "batch"):
        buffer = gss_greedy(3, "total", 1, 1, compared_examples=1, admission=admission)
        memory = full_memory(buffer, [2.0, 1.0, 1.5])
        for seed in range(40):
            of_arrivals = cosines([0.5 - 0.03 * seed])
            memory = memory_after_batch(buffer, memory, of_arrivals, of_arrivals[0], seed)
        memories.append(memory)
    assert memories[0].scores.min() < 1
    assert torch.equal(memories[0].scores, memories[1].scores)
