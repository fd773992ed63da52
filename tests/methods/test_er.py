import torch

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.methods.er import er
from gradalign_cli.methods.method import LossInputs
from gradalign_cli.models.model import Output


def test_examples_that_only_fill_a_place_do_not_count():
    def network(params, statistics, examples):
        return Output(examples.x @ params.view(2, 2), examples.x, statistics)

    params = torch.tensor([1.0, -1.0, 0.5, 2.0])
    x, label = torch.tensor([[1.0, 2.0], [3.0, 1.0], [9.0, 9.0]]), torch.tensor([0, 1, 0])
    new = Examples(x[:1], label[:1], (), torch.ones(1), torch.zeros(1, 0))
    old = Examples(x[1:], label[1:], (), torch.ones(2), torch.zeros(2, 0))
    faded = old._replace(valid=torch.tensor([1.0, 0.0]))
    objective = er().objective
    one = objective(
        LossInputs(network, params, params[:0], new, (old._replace(valid=old.valid * 0),)), ()
    )[0]
    two = objective(LossInputs(network, params, params[:0], new, (faded,)), ())[0]
    each = [
        torch.nn.functional.cross_entropy(e.images[:1] @ params.view(2, 2), e.target[:1])
        for e in (new, old)
    ]
    torch.testing.assert_close(one, each[0])
    torch.testing.assert_close(two, torch.stack(each).mean())
