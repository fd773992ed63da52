"""Steps per second of gradalign beside a bare hand-written PyTorch loop doing the same work.

    python scripts/bench_step.py [WORK ...] [--device DEVICE] [--replicas N] [--rounds N]
                                 [--json FILE]

All contestants run in this one process, in turn, round after round, after a warm-up; a row gives
the median of its rounds and the spread between the slowest and the fastest. Data are random: a step
costs the same on any pixels. The bare loop is what a researcher would write for one experiment: an
nn.Module, tensors indexed by hand, no traces, no records, a memory of prepared float images; for
GEM it leaves the quadratic program out. On a GPU the same loop captured as a CUDA graph is the
floor. Avalanche takes part where it is installed (the extra `bench`). The limit is what the
device's fastest matrix product would make of the step's floating-point operations.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import peers
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.ring import ring
from gradalign_cli.buffers.ring_per_class import ring_per_class
from gradalign_cli.data import Dataset
from gradalign_cli.engines import recorded
from gradalign_cli.engines.captured import Capture, cuda_graph
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import gem
from gradalign_cli.methods.method import Method
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.resnet import resnet18
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.numerics.devices import CPU, default_device, to_device
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.reference_examples import with_reference_cache
from gradalign_cli.step.step import make_step
from gradalign_cli.training.replica import Replica, new_learner

BATCH, MEMORY_BATCH, LR = 10, 256, 0.01


Round = Callable[[], Any]


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


def there(benchmark: Benchmark, device: torch.device) -> Benchmark:
    """The benchmark with its examples on the device."""
    return benchmark._replace(
        images=to_device(benchmark.images, device), labels=to_device(benchmark.labels, device)
    )


def on_permutations(
    device: torch.device,
    method: Method,
    past: int,
    steps: int,
    width: int,
    slots: int = 256,
    memory_batch: int = MEMORY_BATCH,
) -> Work:
    """An MLP on permutations of random images with `past` tasks over, `slots` memories for each."""
    benchmark = there(permuted(random_dataset((1, 28, 28), 10, 61000), past + 1), device)
    make = ring if method.references == "per_task" else ring_per_class
    with default_device(device):
        buffer = make(slots, "task", past + 1, benchmark.classes_per_task)
    network = mlp([width, width], "xavier", True, benchmark.image_shape, 10)
    parts = Parts(benchmark, network, method, buffer, sgd(0.0, 0.0), memory_batch)
    return Work(parts, past, steps, lambda: mlp_module(width).to(device))


def works(device: torch.device) -> dict[str, Callable[[], Work]]:
    """The pieces of work by name."""

    def on_split(steps: int, **options: str) -> Work:
        benchmark = there(split(random_dataset((3, 32, 32), 100, 51000), 5, "task"), device)
        with default_device(device):
            buffer = ring_per_class(13, "class", 20, 5)
        network = resnet18(20, True, benchmark.image_shape, 100, **options)
        parts = Parts(benchmark, network, agem(), buffer, sgd(0.0, 0.0), MEMORY_BATCH)
        return Work(parts, 10, steps, lambda: resnet_module().to(device))

    fast = 1 if device == CPU else 20  # times as many steps a round
    return {
        "agem_mlp": lambda: on_permutations(device, agem(), 10, 100 * fast, 256),
        "gem_mlp": lambda: on_permutations(device, gem(0.5, 1e-3, False), 19, 20 * fast, 100),
        "agem_resnet": lambda: on_split(2 * fast),
        "agem_resnet_channels_last": lambda: on_split(2 * fast, layout="channels_last"),
        "agem_resnet_bfloat16": lambda: on_split(
            2 * fast, layout="channels_last", precision="bfloat16"
        ),
    }


def filled(parts: Parts, learner: Learner, stream_rows: tuple[Tensor, ...], past: int) -> Learner:
    """The learner with a memory full of examples of the past tasks."""
    memory = learner.memory
    row, task = memory.rows.clone(), memory.tasks.clone()
    for t in range(past):
        slots = parts.buffer.task_slots[t]
        row[slots], task[slots] = stream_rows[t][: len(slots)].to(row.device), t
    return learner._replace(memory=memory._replace(rows=row, tasks=task))


def product(work: Work, engine: Engine, count: int) -> Round:
    """A round of gradalign: `count` replicas, a measured step in ten."""
    parts, past, device = work.parts, work.past, engine.device
    replicas = [Replica(s, LR, parts.method, parts.benchmark.make_stream(s)) for s in range(count)]
    views = to_device(tree_stack([r.stream.view for r in replicas]), device)
    learners = tree_stack(
        [filled(parts, new_learner(parts, r, device), r.stream.train_rows, past) for r in replicas]
    )
    with default_device(device):
        views = with_reference_cache(parts, past, learners, views)
    measured, plain = (make_step(parts, past, engine.gradient, m) for m in (True, False))
    cycle = [measured] + [plain] * 9
    width = len(parts.buffer.task_slots.unique())

    def round_() -> None:
        nonlocal learners
        rows = torch.stack([own_rows(r.stream, work).view(-1, BATCH) for r in replicas], 1)
        draws = Draw(
            rows,
            torch.full_like(rows, past),
            torch.rand(work.steps, count, width),
            torch.rand(work.steps, count, parts.method.memory_batches, width),
            torch.rand(work.steps, count, 0),
            torch.rand(work.steps, count, 0),
            torch.rand(*rows.shape, 1),
            torch.zeros(work.steps, count, 0, dtype=torch.long),
            torch.full((work.steps, count), LR),
        )
        with default_device(device):
            learners, _ = engine.run(cycle, learners, to_device(draws, device), views)

    return round_


def own_rows(stream: Stream, work: Work) -> Tensor:
    """The rows of a round."""
    return stream.train_rows[work.past][: work.steps * BATCH]


def prepared(work: Work, stream: Stream, rows: Tensor, task: int) -> Tensor:
    """A task's examples as float images, as a loader would have made them."""
    benchmark, pixels = work.parts.benchmark, stream.view.pixel_source
    x = benchmark.images[rows.to(benchmark.images.device)].float() / 255
    x = x[:, pixels[task].to(x.device)] if isinstance(pixels, Tensor) else x
    return x.view(-1, *benchmark.image_shape) if work.parts.model.convolutional else x


def bare(work: Work, device: torch.device, capture: Capture | None = None) -> Round:
    """A round of the bare loop: A-GEM, or GEM's gradients without its quadratic program.

    capture: records the step once; where it does, the step has no branch.
    """
    parts, past = work.parts, work.past
    benchmark, per_task = parts.benchmark, parts.method.references == "per_task"
    stream = benchmark.make_stream(0)
    net = work.network()
    weights = list(net.parameters())
    visible, slots = to_device(stream.view.visible_logits, device), parts.buffer.task_slots.shape[1]
    held = [stream.train_rows[t][:slots] for t in range(past)]
    memory_x = torch.cat([prepared(work, stream, held[t], t) for t in range(past)])
    memory_y = benchmark.labels[torch.cat(held).to(device)]
    memory_t = torch.arange(past, device=device).repeat_interleave(slots)
    own_x, own_y = memory_x[:slots].clone(), memory_y[:slots].clone()
    rows = own_rows(stream, work).to(device)
    pixels = to_device(stream.view.pixel_source, device)
    position = torch.zeros(1, dtype=torch.long, device=device)  # of the step, where it is captured
    places = torch.arange(BATCH, device=device)

    def gradient(x: Tensor, y: Tensor, task: Tensor | int) -> Tensor:
        logits = net(x)
        if isinstance(visible, Tensor):
            logits = logits.masked_fill(~visible[task], -torch.inf)
        found = torch.autograd.grad(cross_entropy(logits, y), weights)
        return torch.cat([part.flatten() for part in found])

    def take(chosen: Tensor, place: Tensor) -> None:
        """A step on the rows chosen."""
        x, y = benchmark.images[chosen].float() / 255, benchmark.labels[chosen]
        x = x[:, pixels[past]] if isinstance(pixels, Tensor) else x
        x = x.view(-1, *benchmark.image_shape) if parts.model.convolutional else x
        if per_task:
            bounds = [(t, t * slots, (t + 1) * slots) for t in range(past)]
            refs = torch.stack([gradient(memory_x[a:b], memory_y[a:b], t) for t, a, b in bounds])
            g = gradient(x, y, past)
            if capture or (refs @ g < 0).any():  # the quadratic program is left out, in its favour
                g = g + 0.5 * refs.sum(0)
        else:
            random = (
                torch.rand(len(memory_x), device=device)
                .topk(parts.memory_batch or len(memory_x))
                .indices
            )
            r = gradient(memory_x[random], memory_y[random], memory_t[random])
            g = gradient(x, y, past)
            dot = g @ r
            if capture or dot < 0:
                g = g - dot.clamp_max(0) / (r @ r) * r
        with torch.no_grad():
            start = 0
            for weight in weights:
                end = start + weight.numel()
                weight.sub_(LR * g[start:end].view_as(weight))
                start = end
            own_x[place], own_y[place] = x, y

    def take_next() -> None:
        own = position * BATCH + places
        take(rows[own], own % slots)
        position.add_(1)

    replay = capture(take_next) if capture else None

    def round_() -> None:
        position.zero_()
        for step in range(work.steps):
            if replay:
                replay()
            else:
                take(rows[step * BATCH : (step + 1) * BATCH], (step * BATCH + places) % slots)

    return round_


def peer(work: Work, prepared_images: bool) -> Round:
    """A round of Avalanche, on float images prepared beforehand, or on bytes, as its own benchmarks
    come."""
    parts, past, stream = work.parts, work.past, work.parts.benchmark.make_stream(0)
    benchmark, pixels = parts.benchmark, stream.view.pixel_source

    def examples(rows: Tensor, task: int) -> tuple[Tensor, Tensor]:
        if prepared_images:
            return prepared(work, stream, rows, task), benchmark.labels[rows]
        return benchmark.images[rows].view(-1, *benchmark.image_shape[1:]), benchmark.labels[rows]

    slots = parts.buffer.task_slots.shape[1]
    held = [examples(stream.train_rows[t][:slots], t) for t in range(past)]
    memory_batch = None if parts.method.references == "per_task" else MEMORY_BATCH
    own = examples(own_rows(stream, work), past)
    maps = pixels if isinstance(pixels, Tensor) and not prepared_images else None
    return peers.avalanche(work.network(), held, own, maps, BATCH, memory_batch, LR)


def operations(round_: Round, work: Work) -> float:
    """Floating-point operations of a step, of matrix products and convolutions alone."""
    with FlopCounterMode(display=False) as counter:
        round_()
    return float(counter.get_total_flops()) / work.steps


def peak(device: torch.device) -> float:
    """Floating-point operations a second of the device's fastest matrix product."""
    size = 2048 if device == CPU else 8192
    a = torch.rand(size, size, device=device)
    products: dict[str, Round] = {"torch": partial(torch.mm, a, a, out=torch.empty_like(a))}
    if device == CPU and torch.backends.mkldnn.is_available():
        linear = torch.ops.mkldnn._linear_pointwise
        products["oneDNN"] = partial(linear, a, a, None, "none", [], "")
    seconds = measure(products, 5, device)
    return 2 * size**3 / min(min(spent) for spent in seconds.values())


def measure(rounds: dict[str, Round], count: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each contestant's rounds, taken in turn after one round of warm-up each."""

    def finished(run: Round) -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    for run in rounds.values():
        finished(run)
    seconds: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(count):
        for name, run in rounds.items():
            begin = time.perf_counter()
            finished(run)
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def contestants(
    work: Work, device: torch.device, replicas: int
) -> tuple[dict[str, Round], dict[str, int]]:
    """A round of each, and how many replicas it trains."""
    rounds = {"bare loop": bare(work, device)}
    if device.type == "cuda":
        rounds["bare loop, captured"] = bare(work, device, cuda_graph)
    if peers.INSTALLED and device == CPU and not work.parts.model.convolutional:
        rounds["Avalanche"] = peer(work, prepared_images=False)
        rounds["Avalanche, prepared images"] = peer(work, prepared_images=True)
    single = [eager(device), graph(device)]
    several = [streams(device)]
    if not work.parts.model.convolutional:
        several = [eager(device), streams(device), vmap(device)]
    counts = dict.fromkeys(rounds, 1)
    for engines, count in ((single, 1), (several, replicas)):
        for engine in engines:
            label = f"gradalign, {engine.name}" + (f", {count} replicas" if count > 1 else "")
            rounds[label], counts[label] = product(work, engine, count), count
    return rounds, counts


def main() -> None:
    """Measure what is asked for, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    names = list(works(CPU))
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(names)}")
    parser.add_argument("--device", type=torch.device, default=CPU)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    device, threads = chosen.device, torch.get_num_threads()
    keep_freed_memory()
    recorded.WORTH = 1  # recordings are made in the warm-up
    torch.manual_seed(0)
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{threads} threads"
    table = Table(title=f"steps per second, {hardware}, {platform.machine()}")
    for column in ("work", "contestant", "median", "slowest", "fastest", "of the bare loop"):
        table.add_column(column, justify="left" if column in ("work", "contestant") else "right")
    found: dict[str, dict[str, list[float]]] = {}
    for name in chosen.works or names:
        work = works(device)[name]()
        rounds, counts = contestants(work, device, chosen.replicas)
        seconds = measure(rounds, chosen.rounds, device)
        found[name] = {
            who: [counts[who] * work.steps / s for s in spent] for who, spent in seconds.items()
        }
        base = statistics.median(found[name]["bare loop"])
        limit = peak(device) / operations(rounds["bare loop"], work)
        found[name]["limit"] = [limit]
        for who, rates in found[name].items():
            middle = statistics.median(rates)
            cells = [f"{value:.1f}" for value in (middle, min(rates), max(rates))]
            table.add_row(name, who, *cells, f"{middle / base:.2f}")
    Console().print(table)
    if chosen.json:
        about = {"torch": torch.__version__, "hardware": hardware}
        chosen.json.write_text(json.dumps(about | {"steps_per_second": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
