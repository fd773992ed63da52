import torch

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.logd import logd
from tests.methods.given import align
from tests.methods.problems import problems


def test_the_direction_is_off_what_is_special_and_does_not_hurt_what_is_shared():
    for g, refs in problems():
        direction = align(logd(), g, refs)
        mean = refs.mean(0)
        assert ((refs - mean) @ direction).abs().max() < 1e-8 * g.norm() * refs.norm()
        assert mean @ direction > -1e-9 * mean.norm() * g.norm()
        # so no old task is hurt: its gradient is the shared one plus its special one
        assert (refs @ direction > -1e-8 * refs.norm() * g.norm()).all()


def test_it_is_the_nearest_such_direction():
    for g, refs in problems(15):
        direction = align(logd(), g, refs)
        mean = refs.mean(0)
        basis = torch.linalg.svd((refs - mean), full_matrices=True)
        rank = int((1e-9 * basis.S.max().clamp_min(1e-300) < basis.S).sum())
        free = basis.Vh[rank:]  # all directions off the span
        inside = free.T @ (free @ g)
        shared = free.T @ (free @ mean)
        dot = inside @ shared
        expected = inside - (dot / (shared @ shared) * shared if dot < 0 else 0)
        torch.testing.assert_close(direction, expected)


def test_with_one_old_task_it_is_agem_in_each_layer():
    g, r = torch.randn(2, 10, generator=torch.Generator().manual_seed(0)).double()
    found = align(logd(), g, r[None], layers=(4, 6))
    expected = [
        align(agem(), mine, theirs[None])
        for mine, theirs in zip(g.split((4, 6)), r.split((4, 6)), strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(expected))


def test_tasks_with_nothing_in_memory_do_not_count():
    g, a, b = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).double()
    seen = torch.tensor([True, False, True])
    found = align(logd(), g, torch.stack([a, 0 * a, b]), seen=seen)
    torch.testing.assert_close(found, align(logd(), g, torch.stack([a, b])))
