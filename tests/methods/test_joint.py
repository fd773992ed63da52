import torch

from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.joint import joint
from gradalign_cli.step.draws import pass_orders
from gradalign_cli.training.plan import Plan
from tests.runs import make_parts, make_replicas, train


def test_every_example_of_every_task_comes_once_a_pass_with_its_own_task(tiny):
    stream = make_replicas(make_parts(tiny, joint()))[0].stream
    parts = [part for task in range(3) for part in pass_orders(stream, 0, task, 2, mixed=True)]
    rows, tasks = (torch.cat([part[k] for part in parts]) for k in range(2))
    assert torch.equal(rows.sort().values, torch.cat(stream.train_rows * 2).sort().values)
    owner = {int(row): task for task in range(3) for row in stream.train_rows[task]}
    assert [owner[int(row)] for row in rows] == tasks.tolist()
    assert len(parts[0][1].unique()) == 3


def test_joint_training_forgets_less_than_fine_tuning(tiny):
    found = {}
    for method in (joint(), finetune()):
        parts = make_parts(tiny, method, scenario="class")
        matrix = train(parts, make_replicas(parts, seeds=(0, 1)), plan=Plan(6, 5, 1, 0)).accuracy
        found[method.shuffles_tasks] = matrix[:, -1].mean()
    assert found[True] > found[False] + 0.2
