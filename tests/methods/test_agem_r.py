import torch

from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.methods.agem import agem, project
from gradalign_cli.methods.agem_r import agem_r
from tests.methods.given import align
from tests.runs import make_parts, make_replicas, same, steps_of_task, train
from tests.step.test_step import learner_after, mean_gradient


def test_its_direction_is_that_of_agem():
    g, r = torch.tensor([1.0, -1.0]), torch.tensor([[0.0, 2.0]])
    assert align(agem_r(), g, r).tolist() == [1.0, 0.0]


def test_with_a_ring_buffer_it_is_agem(tiny):
    parts = make_parts(tiny, agem())
    replicas = make_replicas(parts)
    same(train(parts, replicas), train(parts._replace(method=agem_r()), replicas), tolerance=0)


def test_its_reference_is_on_the_examples_of_earlier_tasks_in_the_reservoir(tiny):
    parts = make_parts(tiny, agem_r(), buffer=reservoir, memory_batch=None)
    replica = make_replicas(parts, lrs=(0.5,))[0]
    steps_with_current_task_stored = conflicts = 0
    for before, draw, view, after, _ in steps_of_task(
        parts, replica, learner_after(parts, replica, 1), 1
    ):
        rows, tasks = before.memory.rows, before.memory.tasks
        steps_with_current_task_stored += int((tasks == 1).any())
        g = mean_gradient(parts, view, before.params, draw.rows, draw.tasks)
        r = mean_gradient(parts, view, before.params, rows[tasks == 0], tasks[tasks == 0])
        conflicts += int(g @ r < 0)
        torch.testing.assert_close(
            after.params, before.params - draw.lr * project(g, r), rtol=1e-4, atol=1e-6
        )
    assert steps_with_current_task_stored
    assert conflicts
