import torch

from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.method import Method
from gradalign_cli.methods.s_gem import s_gem
from tests.methods.given import align
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after, mean_gradient


def test_the_projection_is_that_of_agem():
    g, references = torch.tensor([1.0, -1.0]), torch.tensor([[0.5, 2.0]])
    assert torch.equal(align(s_gem(), g, references), align(agem(), g, references))


def test_the_reference_is_the_gradient_on_one_earlier_task_and_each_task_is_drawn(tiny):
    follow_reference = Method(
        lambda gradients, state: (gradients.references[0], state), references="one_task"
    )
    parts = make_parts(tiny, follow_reference, memory_batch=None)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts._replace(method=finetune()), replica, 2)
    drawn_tasks = set()
    for before, draw, view, after, _ in steps_of_task(parts, replica, learner, 2):
        task = int(draw.align_uniform[0] * 2)
        of_task = before.memory.tasks == task
        rows, tasks = before.memory.rows[of_task], before.memory.tasks[of_task]
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)
        drawn_tasks.add(task)
    assert drawn_tasks == {0, 1}
