import torch

from gradalign_cli.buffers.buffer import draw_slot, even_shares


def test_a_slot_is_drawn_in_proportion_to_its_weight_and_never_one_of_weight_0():
    weights = torch.tensor([0.0, 2.0, 0.0, 6.0, 0.0])
    for uniform, expected in ((0.0, 1), (0.2499, 1), (0.25, 3), (1 - 2**-24, 3)):
        assert int(draw_slot(weights, torch.tensor(uniform).double())) == expected


def test_where_all_weights_are_0_no_slot_is_drawn():
    assert int(draw_slot(torch.zeros(4), torch.tensor(0.3))) == 4


def test_shares_differ_by_at_most_one_and_the_first_groups_have_the_remainder():
    assert even_shares(11, 3) == [4, 4, 3]
