"""What a step shows of the alignment, by hand."""

import torch

from gradalign_cli.step.references import References
from gradalign_cli.step.trace import measured_trace


def test_a_reference_without_examples_violates_nothing_and_breaks_nothing():
    g = torch.tensor([1.0, 0.0])
    gradients = torch.tensor([[-1.0, 0.0], [0.6, 0.8]])
    for available, violated, cosine in (([False, True], 0.0, 0.6), ([True, True], 1.0, -1.0)):
        references = References(gradients, torch.ones(2), torch.tensor(available), torch.zeros(0))
        trace = measured_trace(torch.tensor(1.0), g, references, g, -g)
        assert float(trace.violated) == violated
        assert float(trace.applied_update_violates) == violated
        torch.testing.assert_close(trace.cosine, torch.tensor(cosine))
    nothing = References(gradients, torch.ones(2), torch.tensor([False, False]), torch.zeros(0))
    trace = measured_trace(torch.tensor(1.0), g, nothing, g, -g)
    assert all(field.isnan() for field in trace[1:])
