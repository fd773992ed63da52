import torch

from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.joint import joint
from gradalign_cli.step.draws import pass_orders
from gradalign_cli.training.plan import TrainingPlan
from tests.runs import make_parts, make_replicas, train


def test_every_example_of_every_task_comes_once_a_pass_with_its_task(tiny):
    stream = make_replicas(make_parts(tiny, joint()))[0].stream
    parts = [part for task in range(3) for part in pass_orders(stream, 0, task, 2, True)]
    rows, tasks = (torch.cat([part[k] for part in parts]) for k in range(2))
    assert torch.equal(rows.sort().values, torch.cat(stream.train_rows * 2).sort().values)
    task_of_row = {int(row): task for task in range(3) for row in stream.train_rows[task]}
    assert [task_of_row[int(row)] for row in rows] == tasks.tolist()
    assert len(parts[0][1].unique()) == 3


def test_each_pass_is_an_epoch_over_all_tasks_in_an_order_of_its_own(tiny):
    stream = make_replicas(make_parts(tiny, joint()))[0].stream
    parts = [part for task in range(3) for part in pass_orders(stream, 0, task, 2, True)]
    epochs = torch.cat([rows for rows, _ in parts]).view(2, -1)
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.cat(stream.train_rows).sort().values)
    assert not torch.equal(*epochs)


def test_joint_training_forgets_less_than_fine_tuning(tiny):
    final_accuracy = {}
    for name, method in (("joint", joint()), ("finetune", finetune())):
        parts = make_parts(tiny, method, scenario="class")
        accuracy = train(
            parts, make_replicas(parts, seeds=(0, 1)), plan=TrainingPlan(6, 5, 1, 0)
        ).accuracy
        final_accuracy[name] = accuracy[:, -1].mean()
    assert final_accuracy["joint"] > final_accuracy["finetune"] + 0.2
