import pytest
import torch

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.logd import logd, project_layer
from tests.methods.given import align
from tests.methods.problems import multitask_gradients


def test_the_direction_is_orthogonal_to_the_specific_parts_and_does_not_hurt_the_mean():
    for g, references in multitask_gradients():
        direction = align(logd(), g, references)
        mean = references.mean(0)
        scale = references.norm() * g.norm()
        assert ((references - mean) @ direction).abs().max() < 1e-8 * scale
        assert mean @ direction > -1e-9 * mean.norm() * g.norm()
        # so no old task is hurt: its gradient is the mean plus its specific part
        assert (references @ direction > -1e-8 * scale).all()


def test_it_is_the_nearest_such_direction():
    for g, references in multitask_gradients(15):
        direction = align(logd(), g, references)
        mean = references.mean(0)
        _, singular_values, V = torch.linalg.svd(references - mean, full_matrices=True)
        rank = int((1e-9 * singular_values.max().clamp_min(1e-300) < singular_values).sum())
        complement = V[rank:]  # all directions orthogonal to the specific parts
        projected_g, projected_mean = (complement.T @ (complement @ v) for v in (g, mean))
        dot_product = projected_g @ projected_mean
        expected = projected_g
        if dot_product < 0:
            scale = dot_product / (projected_mean @ projected_mean)
            expected = projected_g - scale * projected_mean
        torch.testing.assert_close(direction, expected)


def test_with_one_old_task_it_is_agem_in_each_layer():
    g, r = torch.randn(2, 10, generator=torch.Generator().manual_seed(0)).double()
    direction = align(logd(), g, r[None], layer_sizes=(4, 6))
    expected = [
        align(agem(), g_part, r_part[None])
        for g_part, r_part in zip(g.split((4, 6)), r.split((4, 6)), strict=True)
    ]
    torch.testing.assert_close(direction, torch.cat(expected))


def test_tasks_with_nothing_in_memory_do_not_count():
    g, a, b = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).double()
    available = torch.tensor([True, False, True])
    direction = align(logd(), g, torch.stack([a, 0 * a, b]), available=available)
    torch.testing.assert_close(direction, align(logd(), g, torch.stack([a, b])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_the_mean_is_specific_too_nothing_is_projected_off_its_rounding(dtype):
    """With references r and 0 the specific gradients are r / 2 and -r / 2, and so is the mean."""
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        g, r = torch.randn(2, 50, generator=generator, dtype=dtype)
        available = torch.tensor([True, True])
        direction = project_layer(g, torch.stack([r, 0 * r]), available)
        expected = g - (g @ r) / (r @ r) * r
        torch.testing.assert_close(direction, expected)


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_references_have_no_specific_parts_and_give_agems_direction(count, dtype):
    """Their mean differs from them by rounding, which has no direction."""
    for seed in range(10):
        g, r = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)
        r = r / 3  # whose sums are rounded
        expected = align(agem(), g, r[None])
        direction = project_layer(g, r.expand(count, -1), torch.ones(count).bool())
        torch.testing.assert_close(direction, expected)


def test_a_reference_that_is_the_mean_of_two_others_in_float32_has_no_specific_part():
    for seed in range(10):
        g, a, b = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
        references = torch.stack([a, b, (a + b) / 2])
        direction = project_layer(g, references, torch.ones(3).bool())
        expected = project_layer(g, references[:2], torch.ones(2).bool())
        torch.testing.assert_close(direction, expected, rtol=1e-4, atol=1e-5)
