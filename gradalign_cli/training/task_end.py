"""The end of a task: each replica's buffer and method look at the examples of the task."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews, rows_and_tasks_of_part
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.benchmarks.loading import load_examples, target_logits
from gradalign_cli.buffers.buffer import EndedTask
from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import NO_LAYER_INPUTS, ExampleFunction, Probe
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.devices import default_device, to_device
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_stack
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.training.evaluation import evaluation_batch_size, even_pieces
from gradalign_cli.training.replica import Replica


def end_task(parts: Parts, replicas: Sequence[Replica], learners: Learner, task: int) -> Learner:
    """The learners [R, ...] after task number `task` has ended."""
    device = learners.params.device
    ended = []
    for number, replica in enumerate(replicas):
        rows = task_rows(replica, task).to(device)
        view = to_device(replica.stream.view, device)
        with default_device(device):
            ended.append(
                end_task_of_replica(parts, replica, tree_index(learners, number), view, rows, task)
            )
    return tree_stack(pad_to_common_shapes(ended))


def task_rows(replica: Replica, task: int) -> Tensor:
    """The rows [n] of the task in its part of the stream, in a random order."""
    rows, tasks = rows_and_tasks_of_part(replica.stream, task)
    rows = rows[tasks == task]  # a blurry part holds examples of other tasks too
    return rows[torch.randperm(len(rows), generator=generator(replica.seed, "end", task))]


def end_task_of_replica(
    parts: Parts, replica: Replica, learner: Learner, view: TaskViews, rows: Tensor, task: int
) -> Learner:
    """One learner after its task with these rows [n] has ended: first the buffer chooses what it
    keeps, then the method looks at the task."""
    method = replica.method
    params = method.test_params(learner.method_state, learner.params, task, parts.model.layers)
    as_tested = learner._replace(params=params)
    memory = parts.buffer.end_task(
        learner.memory, task, ended_task(parts, as_tested, view, rows, task)
    )
    probe = make_probe(parts, as_tested._replace(memory=memory), view, rows, task)
    state = method.end_task(learner.method_state, learner.params, probe)
    next_params = method.next_task_params(state, learner.params)
    optimizer_state = learner.optimizer_state
    if parts.optimizer.at_task_end == "reset" and not parts.method.shuffles_tasks_together:
        optimizer_state = parts.optimizer.init(next_params)
    return Learner(next_params, learner.statistics, optimizer_state, state, memory)


def make_probe(parts: Parts, learner: Learner, view: TaskViews, rows: Tensor, task: int) -> Probe:
    """What the replica's method may ask of its network about a task that has ended, or begins."""
    network, this_task = make_network(parts.model, training=False), torch.tensor([task])

    def examples_of_task(rows: Tensor) -> Examples:
        return load_examples(parts.benchmark, view, rows, this_task)

    def in_memory(slots: Tensor) -> tuple[Tensor, Tensor]:
        return learner.memory.rows[slots], learner.memory.tasks[slots]

    def memory_examples(slots: Tensor) -> Examples:
        return load_examples(parts.benchmark, view, *in_memory(slots))

    def function_value(
        params: Tensor, function: ExampleFunction, rows: Tensor, tasks: Tensor
    ) -> Tensor:
        examples = load_examples(parts.benchmark, view, rows, tasks)
        return function(network(params, learner.statistics, examples).logits, examples)

    def mean_gradient(function: ExampleFunction, rows: Tensor, tasks: Tensor = this_task) -> Tensor:
        gradient: Tensor = torch.func.grad(function_value)(learner.params, function, rows, tasks)
        return gradient

    def sample_gradients(
        function: ExampleFunction, rows: Tensor, tasks: Tensor = this_task
    ) -> Tensor:
        columns = rows[:, None], tasks.expand(len(rows))[:, None]
        gradients: Tensor = torch.func.vmap(partial(mean_gradient, function))(*columns)
        return gradients

    def layer_inputs(rows: Tensor, tasks: Tensor = this_task) -> tuple[Tensor, ...]:
        if parts.model.layer_inputs is None:
            raise UserError(NO_LAYER_INPUTS)
        images = load_examples(parts.benchmark, view, rows, tasks).images
        return parts.model.layer_inputs(learner.params, learner.statistics, images)

    def memory_gradient(params: Tensor, slots: Tensor) -> Tensor:
        arguments = params, cross_entropy, *in_memory(slots)
        gradient: Tensor = torch.func.grad(function_value)(*arguments)
        return gradient

    task_logit_mask = learner.params.new_zeros(parts.benchmark.outputs)
    task_logit_mask[target_logits(parts.benchmark, view, rows)] = 1
    return Probe(
        rows=rows,
        task=task,
        network=network,
        statistics=learner.statistics,
        examples=examples_of_task,
        memory_examples=memory_examples,
        sample_gradients=sample_gradients,
        mean_gradient=mean_gradient,
        layer_inputs=layer_inputs,
        layers=parts.model.layers,
        task_logit_mask=task_logit_mask,
        filled_slot_indices=(learner.memory.rows >= 0).nonzero()[:, 0],
        memory_gradient=memory_gradient,
        memory_layer_inputs=lambda slots: layer_inputs(*in_memory(slots)),
    )


def ended_task(
    parts: Parts, learner: Learner, view: TaskViews, rows: Tensor, task: int
) -> EndedTask:
    """The ended task's examples as its buffer sees them, with the network's features where it needs
    them, and the logits that the method keeps."""
    class_in_task = view.class_in_task[parts.benchmark.labels[rows]]
    nothing = learner.params.new_zeros(len(rows), 0)
    stores_logits = parts.method.stores_logits
    if not parts.buffer.needs_features and not stores_logits:
        return EndedTask(rows, class_in_task, nothing, nothing)
    network, this_task = make_network(parts.model, training=False), torch.tensor([task])
    largest = evaluation_batch_size(parts.model, rows.device)
    with torch.no_grad():
        outputs = [
            network(
                learner.params,
                learner.statistics,
                load_examples(parts.benchmark, view, batch, this_task),
            )
            for batch in even_pieces(rows, largest, 0)
        ]
    features = torch.cat([output.features for output in outputs])
    logits = torch.cat([output.logits for output in outputs])
    return EndedTask(rows, class_in_task, features, logits if stores_logits else nothing)
