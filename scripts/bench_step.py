"""Steps per second of gradalign beside a bare hand-written PyTorch loop doing the same work.

    python scripts/bench_step.py [WORK ...] [--replicas N] [--rounds N] [--json FILE]

All contestants run in this one process, in turn, round after round, after a warm-up; a row gives
the median of its rounds and the spread between the slowest and the fastest. Data are random: a step
costs the same on any pixels. The bare loop is what a researcher would write for one experiment: an
nn.Module, tensors indexed by hand, no traces, no records, a memory of prepared float images.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradalign_cli.allocator import keep_freed_memory
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.ring import ring
from gradalign_cli.buffers.ring_per_class import ring_per_class
from gradalign_cli.data import Dataset
from gradalign_cli.draws import Draw
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.learner import Learner, Parts, make_step
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import gem
from gradalign_cli.methods.method import Method
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.resnet import resnet18
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.runner import Replica, new_learner
from gradalign_cli.trees import stack

BATCH, MEMORY_BATCH, LR = 10, 256, 0.01


class Work(NamedTuple):
    """What all contestants do: the parts, the tasks that are over, steps a round, and the bare
    loop's network."""

    parts: Parts
    past: int
    steps: int
    network: Callable[[], nn.Module]


def random_dataset(shape: tuple[int, int, int], classes: int, count: int) -> Dataset:
    """Random pixels, with as many examples of each class."""
    x = torch.randint(0, 256, (count, *shape), dtype=torch.uint8).numpy()
    return Dataset(
        "random", x, (torch.arange(count) % classes).numpy(), count - 1000, classes, None
    )


def mlp_module(width: int) -> nn.Module:
    """The bare loop's MLP."""
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


class Block(nn.Module):
    """A basic block of the bare loop's ResNet18."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride > 1 or into != out:
            conv = nn.Conv2d(into, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(h + self.shortcut(x))


def resnet_module() -> nn.Module:
    """The bare loop's reduced ResNet18."""
    layers: list[nn.Module] = [nn.Conv2d(3, 20, 3, 1, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU()]
    into = 20
    for stage in range(4):
        for place in range(2):
            out = 20 * 2**stage
            layers.append(Block(into, out, 2 if stage and not place else 1))
            into = out
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(into, 100))


def works() -> dict[str, Callable[[], Work]]:
    """The pieces of work by name."""

    def on_permutations(method: Method, tasks: int, width: int, past: int, steps: int) -> Work:
        benchmark = permuted(random_dataset((1, 28, 28), 10, 61000), tasks)
        gem_like = method.references == "per_task"
        buffer = (
            ring(256, "task", tasks, 10) if gem_like else ring_per_class(25, "class", tasks, 10)
        )
        network = mlp([width, width], "xavier", True, benchmark.shape, 10)
        parts = Parts(benchmark, network, method, buffer, sgd(0.0, 0.0), MEMORY_BATCH)
        return Work(parts, past, steps, lambda: mlp_module(width))

    def on_split(steps: int) -> Work:
        benchmark = split(random_dataset((3, 32, 32), 100, 51000), 5, "task")
        buffer = ring_per_class(13, "class", 20, 5)
        network = resnet18(20, True, benchmark.shape, 100)
        parts = Parts(benchmark, network, agem(), buffer, sgd(0.0, 0.0), MEMORY_BATCH)
        return Work(parts, 10, steps, resnet_module)

    return {
        "agem_mlp": lambda: on_permutations(agem(), 17, 256, 10, 100),
        "gem_mlp": lambda: on_permutations(gem(0.5, 1e-3, False), 20, 100, 10, 20),
        "agem_resnet": lambda: on_split(2),
    }


def filled(parts: Parts, learner: Learner, stream_rows: tuple[Tensor, ...], past: int) -> Learner:
    """The learner with a memory full of examples of the past tasks."""
    memory = learner.memory
    row, task = memory.row.clone(), memory.task.clone()
    for t in range(past):
        slots = parts.buffer.slots[t]
        row[slots], task[slots] = stream_rows[t][: len(slots)], t
    return learner._replace(memory=memory._replace(row=row, task=task))


def product(work: Work, engine: Engine, count: int) -> Callable[[], None]:
    """A round of gradalign: `count` replicas, a measured step in ten."""
    parts, past = work.parts, work.past
    replicas = [Replica(s, LR, parts.method, parts.benchmark.stream(s)) for s in range(count)]
    views = stack([r.stream.view for r in replicas])
    learners = stack([filled(parts, new_learner(parts, r), r.stream.train, past) for r in replicas])
    cycle = [make_step(parts, past, engine.gradient, s == 0) for s in range(10)]
    width = len(parts.buffer.slots.unique())

    def round_() -> None:
        nonlocal learners
        rows = torch.stack(
            [r.stream.train[past][: work.steps * BATCH].view(-1, BATCH) for r in replicas], 1
        )
        draws = Draw(
            rows,
            torch.full_like(rows, past),
            torch.rand(rows.shape),
            torch.rand(work.steps, count, width),
            torch.rand(work.steps, count, parts.method.replays, width),
            torch.rand(work.steps, count, 0),
            torch.full((work.steps, count), LR),
        )
        learners, _ = engine.run(cycle, learners, draws, views)

    return round_


def bare(work: Work) -> Callable[[], None]:
    """A round of the bare loop: A-GEM, or GEM's gradients without its quadratic program."""
    parts, past = work.parts, work.past
    benchmark, per_task = parts.benchmark, parts.method.references == "per_task"
    stream = benchmark.stream(0)
    net = work.network()
    weights = list(net.parameters())
    pixels, visible = stream.view.pixels, stream.view.visible
    order = stream.train[past]

    def prepared(rows: Tensor, task: int) -> Tensor:
        x = benchmark.x[rows].float() / 255
        return (x[:, pixels[task]] if isinstance(pixels, Tensor) else x).view(-1, *benchmark.shape)

    slots = parts.buffer.slots.shape[1]
    memory_x = torch.cat([prepared(stream.train[t][:slots], t) for t in range(past)])
    memory_y = torch.cat([benchmark.y[stream.train[t][:slots]] for t in range(past)])
    memory_t = torch.arange(past).repeat_interleave(slots)
    own_x, own_y = memory_x[:slots].clone(), memory_y[:slots].clone()
    module_input = (lambda x: x) if parts.model.convolutional else (lambda x: x.flatten(1))

    def gradient(x: Tensor, y: Tensor, task: Tensor | int) -> Tensor:
        logits = net(module_input(x))
        if isinstance(visible, Tensor):
            logits = logits.masked_fill(~visible[task], -torch.inf)
        parts_ = torch.autograd.grad(cross_entropy(logits, y), weights)
        return torch.cat([part.flatten() for part in parts_])

    def round_() -> None:
        for step in range(work.steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            x, y = prepared(rows, past), benchmark.y[rows]
            if per_task:
                refs = torch.stack(
                    [
                        gradient(memory_x[memory_t == t], memory_y[memory_t == t], t)
                        for t in range(past)
                    ]
                )
                g = gradient(x, y, past)
                if (refs @ g < 0).any():  # the quadratic program is left out, in its favour
                    g = g + 0.5 * refs.sum(0)
            else:
                chosen = torch.randperm(len(memory_x))[:MEMORY_BATCH]
                r = gradient(memory_x[chosen], memory_y[chosen], memory_t[chosen])
                g = gradient(x, y, past)
                dot = g @ r
                if dot < 0:
                    g = g - dot / (r @ r) * r
            with torch.no_grad():
                start = 0
                for weight in weights:
                    end = start + weight.numel()
                    weight.sub_(LR * g[start:end].view_as(weight))
                    start = end
            place = (step * BATCH + torch.arange(BATCH)) % slots
            own_x[place], own_y[place] = x, y

    return round_


def measure(rounds: dict[str, Callable[[], None]], count: int) -> dict[str, list[float]]:
    """Seconds of each contestant's rounds, taken in turn after one round of warm-up each."""
    for run in rounds.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(count):
        for name, run in rounds.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    """Measure what is asked for, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(works())}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    table = Table(
        title=f"steps per second, {torch.get_num_threads()} threads, {platform.machine()}"
    )
    for column in ("work", "contestant", "median", "slowest", "fastest", "of the bare loop"):
        table.add_column(column, justify="left" if column in ("work", "contestant") else "right")
    found: dict[str, dict[str, list[float]]] = {}
    for name in chosen.works or works():
        work = works()[name]()
        rounds = {"bare loop": bare(work), "gradalign, eager": product(work, eager(), 1)}
        counts = dict.fromkeys(rounds, 1)
        if not work.parts.model.convolutional:
            for engine in (eager(), vmap()):
                label = f"gradalign, {engine.name}, {chosen.replicas} replicas"
                rounds[label] = product(work, engine, chosen.replicas)
                counts[label] = chosen.replicas
        seconds = measure(rounds, chosen.rounds)
        found[name] = {
            who: [counts[who] * work.steps / s for s in spent] for who, spent in seconds.items()
        }
        base = statistics.median(found[name]["bare loop"])
        for who, rates in found[name].items():
            middle = statistics.median(rates)
            cells = [f"{value:.1f}" for value in (middle, min(rates), max(rates))]
            table.add_row(name, who, *cells, f"{middle / base:.2f}")
    Console().print(table)
    if chosen.json:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        chosen.json.write_text(json.dumps(about | {"steps_per_second": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
