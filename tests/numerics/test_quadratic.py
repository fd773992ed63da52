import pytest
import torch

from gradalign_cli.numerics.quadratic import lower_bounded_qp


@pytest.mark.parametrize(("rows", "dimension"), [(9, 4), (20, 10), (50, 25)])
@pytest.mark.parametrize("ridge", [1e-3, 1e-10])
def test_on_a_cpu_programs_with_many_dependent_rows_are_solved_too(rows, dimension, ridge):
    """They take hundreds of exchanges, where independent rows take some eight."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        J = torch.randn(rows + 1, dimension, generator=generator).double()
        J = J / J.norm(dim=1, keepdim=True)
        P, q = J[:-1] @ J[:-1].T + ridge * torch.eye(rows), J[:-1] @ J[-1]
        v, residual = lower_bounded_qp(P, q, torch.zeros(rows).double(), 24)
        multiplier = P @ v + q
        assert residual < 1e-9
        assert v.min() >= -1e-6
        assert multiplier.min() >= -1e-9
        assert abs(v @ multiplier) < 1e-6
