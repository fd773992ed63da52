"""The end of a task: each replica's buffer and method look at it."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View, part, show
from gradalign_cli.buffers.buffer import Selection
from gradalign_cli.draws import generator
from gradalign_cli.errors import UserError
from gradalign_cli.evaluation import TEST_BATCH
from gradalign_cli.learner import Learner, Parts, make_network
from gradalign_cli.methods.method import OfOne, Probe, cross_entropy
from gradalign_cli.replica import Replica, default, put
from gradalign_cli.trees import evened, index, stack


def end_task(parts: Parts, replicas: Sequence[Replica], learners: Learner, task: int) -> Learner:
    """Let each replica's method and buffer look at the task that has just ended."""
    device, after = learners.params.device, []
    for number, replica in enumerate(replicas):
        learner, view = index(learners, number), put(replica.stream.view, device)
        rows, owner = part(replica.stream, task)
        rows = rows[owner == task]  # of blurry parts, what came of the task itself
        rows = rows[torch.randperm(len(rows), generator=generator(replica.seed, "end", task))]
        rows = rows.to(device)
        with default(device):
            own, params = replica.method, learner.params
            answering = own.tested(learner.method, params, task, parts.model.layers)
            shown = learner._replace(params=answering)  # the network as the task is tested
            selection = select(parts, shown, view, rows, task)
            memory = parts.buffer.finish(learner.memory, task, selection)
            probe = make_probe(parts, shown._replace(memory=memory), view, rows, task)
            state = own.end_task(learner.method, params, probe)
            params = own.restart(state, params)
        after.append(learner._replace(params=params, method=state, memory=memory))
    learners_after: Learner = stack(evened(after))
    return learners_after


def make_probe(parts: Parts, learner: Learner, view: View, rows: Tensor, task: int) -> Probe:
    """What the replica's method may ask of its network about the ended task."""

    network, own = make_network(parts.model, training=False), torch.tensor([task])

    def number(params: Tensor, of: OfOne, rows: Tensor, tasks: Tensor) -> Tensor:
        examples = show(parts.benchmark, view, rows, tasks)
        return of(network(params, learner.statistics, examples).logits, examples)

    def mean_gradient(of: OfOne, rows: Tensor, tasks: Tensor = own) -> Tensor:
        found: Tensor = torch.func.grad(number)(learner.params, of, rows, tasks)
        return found

    def sample_gradients(of: OfOne, rows: Tensor, tasks: Tensor = own) -> Tensor:
        each = tasks.expand(len(rows))[:, None]
        found: Tensor = torch.func.vmap(partial(mean_gradient, of))(rows[:, None], each)
        return found

    def inputs(rows: Tensor, tasks: Tensor = own) -> tuple[Tensor, ...]:
        if parts.model.inputs is None:
            raise UserError("`method` needs the inputs of every layer, which this `model` hides")
        x = show(parts.benchmark, view, rows, tasks).x
        return parts.model.inputs(learner.params, learner.statistics, x)

    def memory_inputs(slots: Tensor) -> tuple[Tensor, ...]:
        return inputs(learner.memory.row[slots], learner.memory.task[slots])

    def memory_gradient(params: Tensor, slots: Tensor) -> Tensor:
        row, task = learner.memory.row[slots], learner.memory.task[slots]
        examples = show(parts.benchmark, view, row, task)

        def loss(params: Tensor) -> Tensor:
            return cross_entropy(network(params, learner.statistics, examples).logits, examples)

        found: Tensor = torch.func.grad(loss)(params)
        return found

    held = (learner.memory.row >= 0).nonzero()[:, 0]
    used = learner.params.new_zeros(parts.benchmark.outputs)
    used[show(parts.benchmark, view, rows, own).label] = 1
    layers = parts.model.layers
    asked = sample_gradients, mean_gradient, inputs
    return Probe(rows, task, *asked, layers, used, held, memory_gradient, memory_inputs)


def select(parts: Parts, learner: Learner, view: View, rows: Tensor, task: int) -> Selection:
    """The ended task's examples as its buffer sees them."""
    position = view.position[parts.benchmark.y[rows]]
    nothing = learner.params.new_zeros(len(rows), 0)
    wants, stores = parts.buffer.wants_features, parts.method.stores
    if not wants and not stores:
        return Selection(rows, position, nothing, nothing)
    network, own = make_network(parts.model, training=False), torch.tensor([task])
    with torch.no_grad():
        found = [
            network(learner.params, learner.statistics, show(parts.benchmark, view, part, own))
            for part in rows.split(TEST_BATCH)
        ]
    features, logits = (torch.cat([getattr(o, n) for o in found]) for n in ("features", "logits"))
    return Selection(rows, position, features, logits if stores else nothing)
