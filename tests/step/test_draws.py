import pytest
import torch

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.step.draw_sizes import DrawSizes
from gradalign_cli.step.draws import data_order_fingerprint, draw_chunks, pass_orders
from tests.runs import make_parts, make_replicas, train


def one_by_one(dataset, size, first):
    """All draws of a task of two replicas, cut into draw_chunks of `size` steps."""
    replicas = make_replicas(make_parts(dataset, agem()), seeds=(0, 1))
    orders = [pass_orders(r.stream, r.seed, 1, 2, shuffles_tasks_together=False) for r in replicas]
    found = []
    for draws in draw_chunks(
        orders, [0, 1], [0.1, 0.2], 1, 7, DrawSizes(5, (2, 3), 4, 2), first, size
    ):
        found += [tree_index(draws, s) for s in range(len(draws.rows))]
    return found


@pytest.mark.parametrize(("size", "first"), [(1, 0), (3, 0), (100, 4)])
def test_what_is_drawn_does_not_depend_on_how_it_is_cut(size, first, tiny):
    expected, found = one_by_one(tiny, 100, 0), one_by_one(tiny, size, first)
    assert len(found) == len(expected) == 12
    for a, b in zip(expected, found, strict=True):
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y)


def test_a_pass_meets_every_example_once(tiny):
    draws = one_by_one(tiny, 100, 0)
    train_rows = make_replicas(make_parts(tiny, agem()))[0].stream.train_rows[1]
    for part in (draws[:6], draws[6:]):
        rows = torch.cat([draw.rows[0] for draw in part])
        assert torch.equal(rows.sort().values, train_rows)


def test_methods_at_one_seed_see_one_stream_and_other_seeds_another(tiny):
    def mark(method, seeds, count=1):
        parts = make_parts(tiny, method, kind="permuted")
        streams = [r.stream for r in make_replicas(parts, seeds=seeds)]
        return data_order_fingerprint(streams, list(seeds), count, method.shuffles_tasks_together)

    assert mark(agem(), (0, 1)) == mark(finetune(), (0, 1))
    assert len({mark(agem(), (0, 1)), mark(agem(), (0, 2)), mark(agem(), (0, 1), 2)}) == 3


def test_nothing_is_taken_from_the_global_generator(tiny):
    parts = make_parts(tiny, agem())
    torch.manual_seed(0)
    one = train(parts, make_replicas(parts))
    torch.manual_seed(123)
    state = torch.get_rng_state()
    two = train(parts, make_replicas(parts))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.learners.params, two.learners.params)


@pytest.mark.parametrize("shuffles_tasks_together", [False, True])
def test_every_pass_has_an_order_of_its_own(shuffles_tasks_together, tiny):
    (replica,) = make_replicas(make_parts(tiny, agem()))
    rows = torch.cat([r for r, _ in pass_orders(replica.stream, 0, 1, 3, shuffles_tasks_together)])
    first, second, third = rows.tensor_split(3)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
