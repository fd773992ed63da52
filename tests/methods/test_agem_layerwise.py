import torch

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.agem_layerwise import agem_layerwise
from tests.methods.given import align


def test_each_layer_is_projected_by_itself():
    g = torch.tensor([1.0, -1.0, 2.0, 1.0])
    r = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    assert g @ r[0] > 0  # the sum over the layers hides the conflict in the first
    direction = align(agem_layerwise(), g, r, layer_sizes=(2, 2))
    assert direction.tolist() == [1.0, 0.0, 2.0, 1.0]


def test_with_one_layer_it_is_agem():
    source = torch.Generator().manual_seed(0)
    for _ in range(20):
        g, r = torch.randn(2, 9, generator=source)
        assert torch.equal(align(agem_layerwise(), g, r[None]), align(agem(), g, r[None]))


def test_no_layer_hurts_its_reference():
    g, r = torch.randn(2, 30, generator=torch.Generator().manual_seed(1)).double()
    direction = align(agem_layerwise(), g, r[None], layer_sizes=(10, 5, 15))
    sizes = (10, 5, 15)
    for part, r_part in zip(direction.split(sizes), r.split(sizes), strict=True):
        assert part @ r_part > -1e-12
