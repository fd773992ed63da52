import torch

from gradalign_cli.buffers.buffer import Arrivals
from gradalign_cli.buffers.reservoir import reservoir
from tests.buffers.streams import NONE, feed, feed_many

RUNS = 4000


def test_every_example_is_kept_with_probability_capacity_over_n():
    buffer = reservoir(10, "total", tasks=1, classes=1)
    kept = feed_many(buffer, torch.arange(47), torch.zeros(47).long(), RUNS).rows
    assert (kept >= 0).all()
    assert (kept.sort(1).values.diff(dim=1) > 0).all()  # nothing twice
    share = torch.bincount(kept.flatten(), minlength=47) / RUNS
    p = 10 / 47
    deviation = (p * (1 - p) / RUNS) ** 0.5
    assert ((share - p).abs() < 4.5 * deviation).all()


def test_the_first_examples_all_fit():
    buffer = reservoir(30, "total", tasks=1, classes=1)
    memory = feed(buffer, buffer.init(), torch.arange(25), 0, torch.zeros(25).long(), 0)
    assert memory.rows[:25].tolist() == list(range(25))
    assert (memory.rows[25:] == -1).all()


def test_the_size_of_the_batches_does_not_matter():
    buffer = reservoir(5, "total", tasks=1, classes=1)
    rows, position = torch.arange(40), torch.zeros(40).long()
    uniform = torch.rand(40, 1, generator=torch.Generator().manual_seed(3))
    found = []
    for batch in (1, 7, 40):
        source = iter(uniform.split(batch))
        memory = buffer.init()
        for part in rows.split(batch):
            arrivals = Arrivals(
                part, *position[part].expand(2, -1), next(source), NONE[: len(part)]
            )
            memory = buffer.insert(memory, arrivals)
        found.append(memory.rows.tolist())
    assert found[0] == found[1] == found[2]
