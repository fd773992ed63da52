"""What PyTorch's optimizers do to the same gradients."""

import torch

LR = 0.3


def assert_follows(optimizer, make_expected):
    """Assert that an optimizer goes PyTorch's way for six steps in float64.

    make_expected: (list of parameters) -> one of torch.optim with the step size LR.
    """
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(5, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(params.clone())
    expected = make_expected([parameter])
    state = optimizer.init(params)
    for _ in range(6):
        g = torch.randn(5, generator=generator, dtype=torch.float64)
        update, state = optimizer.update(g, state, params)
        params = params - LR * update
        parameter.grad = g.clone()
        expected.step()
        torch.testing.assert_close(params, parameter.detach())
