import pytest
import torch

from gradalign_cli.buffers.buffer import draw_slot, even_shares, sample_allowed, total_capacity
from gradalign_cli.errors import UserError
from gradalign_cli.methods.finetune import finetune
from tests.methods.catalogue import BUFFERS, buffer_factory
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after


def test_a_slot_is_drawn_in_proportion_to_its_weight_and_never_one_of_weight_0():
    weights = torch.tensor([0.0, 2.0, 0.0, 6.0, 0.0])
    for uniform, expected in ((0.0, 1), (0.2499, 1), (0.25, 3), (1 - 2**-24, 3)):
        assert int(draw_slot(weights, torch.tensor(uniform).double())) == expected


def test_where_all_weights_are_0_no_slot_is_drawn():
    assert int(draw_slot(torch.zeros(4), torch.tensor(0.3))) == 4


def test_shares_differ_by_at_most_one_and_the_first_groups_have_the_remainder():
    assert even_shares(11, 3) == [4, 4, 3]


def test_where_all_allowed_values_are_taken_the_padding_repeats_them_in_turn():
    values = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]])
    allowed = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 1, 1, 0]]).bool()
    sample, valid = sample_allowed(values, allowed, 5, (), pads_in_turn=True)
    assert sample.tolist() == [[2, 2, 4, 4, 2], [8, 8, 8, 8, 8], [11, 11, 13, 14, 13]]
    assert torch.equal(valid, allowed)


@pytest.mark.parametrize("capacity", [0, -1, 2.5])
def test_a_capacity_that_is_no_positive_whole_number_is_refused(capacity):
    with pytest.raises(UserError, match=r"buffer\.capacity"):
        total_capacity(capacity, "task", 3, 2)


# gss_greedy may replace any example, and in so short a run it happens to replace none
@pytest.mark.parametrize("name", [name for name in BUFFERS if name != "gss_greedy"])
def test_a_buffer_says_whether_its_ended_tasks_keep_their_examples_while_the_next_is_learned(
    name, tiny
):
    parts = make_parts(tiny, finetune(), samples=20, buffer=buffer_factory(name))
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 2)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 2)
    slots = parts.buffer.task_slots[:2]
    is_old = start.memory.tasks[slots] == torch.arange(2)[:, None]
    unchanged = (after.memory.rows == start.memory.rows)[slots][is_old]
    assert unchanged.any()
    assert unchanged.all() == parts.buffer.keeps_ended_tasks
