import pytest
import torch

from gradalign_cli.numerics.spectral import eigh, jacobi_eigh


def gram_matrices(n):
    """Gram matrices [n, n] of vectors that are independent, nearly parallel, linearly dependent, of
    very different lengths, orthonormal, and 0."""
    source = torch.Generator().manual_seed(n)
    J = torch.randn(n, 30, dtype=torch.float64, generator=source)
    parallel, dependent = J[:1] + 1e-6 * J, J.clone()
    uneven = J * torch.logspace(-6, 6, n)[:, None]
    dependent[-1] = dependent[0]
    return [
        vectors @ vectors.T
        for vectors in (J, parallel, dependent, uneven, torch.eye(n, 30).double(), 0 * J)
    ]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 20])
def test_jacobi_rotations_diagonalise(n):
    for K in gram_matrices(n):
        values, vectors = jacobi_eigh(K)
        size = max(float(K.abs().max()), 1e-300)
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(n).double())
        torch.testing.assert_close(
            (vectors * values @ vectors.T) / size, K / size, rtol=0, atol=1e-13
        )
        torch.testing.assert_close(values / size, eigh(K)[0] / size, rtol=0, atol=1e-13)


def test_a_batch_of_matrices_gives_what_a_loop_gives():
    K = torch.stack(gram_matrices(5))
    values, vectors = torch.func.vmap(jacobi_eigh)(K)
    for matrix, eigenvalues, V in zip(K, values, vectors, strict=True):
        torch.testing.assert_close(eigenvalues, jacobi_eigh(matrix)[0])
        torch.testing.assert_close(V * eigenvalues @ V.T, matrix)
