import torch

from gradalign_cli.buffers.buffer import draw_slot


def test_a_slot_is_drawn_in_proportion_to_its_weight_and_never_one_of_weight_0():
    weight = torch.tensor([0.0, 2.0, 0.0, 6.0, 0.0])
    for uniform, expected in ((0.0, 1), (0.2499, 1), (0.25, 3), (1 - 2**-24, 3)):
        assert int(draw_slot(weight, torch.tensor(uniform).double())) == expected


def test_where_all_weights_are_0_no_slot_is_drawn():
    assert int(draw_slot(torch.zeros(4), torch.tensor(0.3))) == 4
