import torch

from gradalign_cli.methods.finetune import finetune
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_begin import begin_task
from tests.runs import make_parts, make_replicas, train


def test_a_method_is_told_of_each_task_before_its_first_step_and_may_change_the_parameters(tiny):
    events, first_params = [], []

    def begin(state, params, probe):
        events.append(("begin", probe.task, sorted(probe.rows.tolist())))
        return state, params + 1

    def after_step(state, unaligned_g, params_before, params_after):
        if events[-1] != "step":
            first_params.append(params_before)
        events.append("step")
        return state

    method = finetune()._replace(begin_task=begin, after_step=after_step)
    parts = make_parts(tiny, method, samples=10)
    (replica,) = make_replicas(parts, lrs=(0.0,))
    train(parts, [replica])
    rows = [sorted(rows.tolist()) for rows in replica.stream.train_rows]
    expected = [[("begin", task, rows[task]), "step", "step"] for task in range(3)]
    assert events == [event for task in expected for event in task]
    for task, params in enumerate(first_params):
        torch.testing.assert_close(params, new_learner(parts, replica).params + task + 1)


def test_where_the_stream_tells_no_boundaries_nothing_is_told(tiny):
    def begin(state, params, probe):
        raise AssertionError

    parts = make_parts(tiny, finetune()._replace(begin_task=begin), samples=10)
    parts = parts._replace(benchmark=parts.benchmark._replace(boundaries="none"))
    replica = make_replicas(parts)[0]
    learners = tree_stack([new_learner(parts, replica)])
    assert begin_task(parts, [replica], learners, 0) is learners
