import pytest
import torch

from gradalign_cli.numerics.spectral import eigen, jacobi


def grams(n):
    """Gram matrices of independent, nearly parallel, dependent, unequally long and no vectors."""
    source = torch.Generator().manual_seed(n)
    J = torch.randn(n, 30, dtype=torch.float64, generator=source)
    near, twice, uneven = J[:1] + 1e-6 * J, J.clone(), J * torch.logspace(-6, 6, n)[:, None]
    twice[-1] = twice[0]
    return [
        vectors @ vectors.T
        for vectors in (J, near, twice, uneven, torch.eye(n, 30).double(), 0 * J)
    ]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 20])
def test_jacobis_rotations_diagonalise(n):
    for K in grams(n):
        values, vectors = jacobi(K)
        size = max(float(K.abs().max()), 1e-300)
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(n).double())
        torch.testing.assert_close(
            (vectors * values @ vectors.T) / size, K / size, rtol=0, atol=1e-13
        )
        torch.testing.assert_close(values / size, eigen(K)[0] / size, rtol=0, atol=1e-13)


def test_many_matrices_at_once_are_each_alone():
    K = torch.stack(grams(5))
    values, vectors = torch.func.vmap(jacobi)(K)
    for one, found, turned in zip(K, values, vectors, strict=True):
        torch.testing.assert_close(found, jacobi(one)[0])
        torch.testing.assert_close(turned * found @ turned.T, one)
