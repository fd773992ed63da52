"""The end of a task: each replica's buffer and method look at it."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View, stream_part
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.buffer import EndedTask
from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import ExampleFunction, Probe
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.devices import default_device, to_device
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_stack
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.training.evaluation import TEST_BATCH
from gradalign_cli.training.replica import Replica


def end_task(parts: Parts, replicas: Sequence[Replica], learners: Learner, task: int) -> Learner:
    """Let each replica's method and buffer look at the task that has just ended."""
    device, after = learners.params.device, []
    for number, replica in enumerate(replicas):
        learner, view = tree_index(learners, number), to_device(replica.stream.view, device)
        rows, owner = stream_part(replica.stream, task)
        rows = rows[owner == task]  # of blurry parts, what came of the task itself
        rows = rows[torch.randperm(len(rows), generator=generator(replica.seed, "end", task))]
        rows = rows.to(device)
        with default_device(device):
            own, params = replica.method, learner.params
            answering = own.test_params(learner.method_state, params, task, parts.model.layers)
            shown = learner._replace(params=answering)  # the network as the task is tested
            selection = select(parts, shown, view, rows, task)
            memory = parts.buffer.end_task(learner.memory, task, selection)
            probe = make_probe(parts, shown._replace(memory=memory), view, rows, task)
            state = own.end_task(learner.method_state, params, probe)
            params = own.next_task_params(state, params)
        after.append(learner._replace(params=params, method_state=state, memory=memory))
    learners_after: Learner = tree_stack(pad_to_common_shapes(after))
    return learners_after


def make_probe(parts: Parts, learner: Learner, view: View, rows: Tensor, task: int) -> Probe:
    """What the replica's method may ask of its network about the ended task."""

    network, own = make_network(parts.model, training=False), torch.tensor([task])

    def number(params: Tensor, of: ExampleFunction, rows: Tensor, tasks: Tensor) -> Tensor:
        examples = load_examples(parts.benchmark, view, rows, tasks)
        return of(network(params, learner.statistics, examples).logits, examples)

    def mean_gradient(of: ExampleFunction, rows: Tensor, tasks: Tensor = own) -> Tensor:
        found: Tensor = torch.func.grad(number)(learner.params, of, rows, tasks)
        return found

    def sample_gradients(of: ExampleFunction, rows: Tensor, tasks: Tensor = own) -> Tensor:
        each = tasks.expand(len(rows))[:, None]
        found: Tensor = torch.func.vmap(partial(mean_gradient, of))(rows[:, None], each)
        return found

    def inputs(rows: Tensor, tasks: Tensor = own) -> tuple[Tensor, ...]:
        if parts.model.layer_inputs is None:
            raise UserError("`method` needs the inputs of every layer, which this `model` hides")
        x = load_examples(parts.benchmark, view, rows, tasks).images
        return parts.model.layer_inputs(learner.params, learner.statistics, x)

    def memory_inputs(slots: Tensor) -> tuple[Tensor, ...]:
        return inputs(learner.memory.rows[slots], learner.memory.tasks[slots])

    def memory_gradient(params: Tensor, slots: Tensor) -> Tensor:
        row, task = learner.memory.rows[slots], learner.memory.tasks[slots]
        examples = load_examples(parts.benchmark, view, row, task)

        def loss(params: Tensor) -> Tensor:
            return cross_entropy(network(params, learner.statistics, examples).logits, examples)

        found: Tensor = torch.func.grad(loss)(params)
        return found

    held = (learner.memory.rows >= 0).nonzero()[:, 0]
    used = learner.params.new_zeros(parts.benchmark.outputs)
    used[load_examples(parts.benchmark, view, rows, own).target] = 1
    layers = parts.model.layers
    asked = sample_gradients, mean_gradient, inputs
    return Probe(rows, task, *asked, layers, used, held, memory_gradient, memory_inputs)


def select(parts: Parts, learner: Learner, view: View, rows: Tensor, task: int) -> EndedTask:
    """The ended task's examples as its buffer sees them."""
    position = view.class_position[parts.benchmark.labels[rows]]
    nothing = learner.params.new_zeros(len(rows), 0)
    wants, stores = parts.buffer.needs_features, parts.method.stores_logits
    if not wants and not stores:
        return EndedTask(rows, position, nothing, nothing)
    network, own = make_network(parts.model, training=False), torch.tensor([task])
    with torch.no_grad():
        found = [
            network(
                learner.params, learner.statistics, load_examples(parts.benchmark, view, part, own)
            )
            for part in rows.split(TEST_BATCH)
        ]
    features, logits = (torch.cat([getattr(o, n) for o in found]) for n in ("features", "logits"))
    return EndedTask(rows, position, features, logits if stores else nothing)
