"""Steps per second of gradalign beside a bare hand-written PyTorch loop doing the same work.

    python scripts/bench_step.py [WORK ...] [--device DEVICE] [--replicas N] [--rounds N]
                                 [--json FILE]

All contestants run in one process, in turn, round after round, after a round of warm-up; a row
gives the median of its rounds and the slowest and the fastest. The images are random, as a step
costs the same on any pixels. The bare loop is what a researcher would write for one experiment: an
nn.Module, tensors indexed by hand, no traces, no records, a memory of prepared float images. For
GEM it leaves the quadratic program out. On a GPU the same loop captured as a CUDA graph shows how
fast it can be. Needs no extra; with the extra `bench` Avalanche takes part. The limit is the
rate at which the device's fastest matrix product would do the floating-point operations of a step.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
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

from gradalign_cli.benchmarks.benchmark import Stream, benchmark_on_device
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.ring import ring
from gradalign_cli.buffers.ring_per_class import ring_per_class
from gradalign_cli.data import Dataset
from gradalign_cli.engines import recorded
from gradalign_cli.engines.captured import Capture, capture_cuda_graph
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import gem
from gradalign_cli.methods.method import Method
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.resnet import MemoryFormat, Precision, resnet18
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.numerics.devices import CPU, default_device, to_device
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.reference_examples import with_cached_reference_examples
from gradalign_cli.step.step import make_step
from gradalign_cli.training.replica import Replica, new_learner

BATCH, MEMORY_BATCH, LR = 10, 256, 0.01
TEST_IMAGES = 1000  # of a random dataset; no step reads them
MEASURE_EVERY = 10  # steps

Round = Callable[[], Any]  # takes one round of steps


class Work(NamedTuple):
    """The work that all contestants do.

    parts:       of gradalign's step.
    past_tasks:  how many tasks are over.
    steps:       of a round.
    make_module: () -> the bare loop's network, on its device.
    """

    parts: Parts
    past_tasks: int
    steps: int
    make_module: Callable[[], nn.Module]


def random_dataset(image_shape: tuple[int, int, int], classes: int, count: int) -> Dataset:
    """`count` random images with the same number in each class."""
    images = torch.randint(0, 256, (count, *image_shape), dtype=torch.uint8).numpy()
    labels = (torch.arange(count) % classes).numpy()
    return Dataset("random", images, labels, count - TEST_IMAGES, classes, None)


def mlp_module(width: int) -> nn.Module:
    """The bare loop's MLP, with two hidden layers."""
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


class Block(nn.Module):
    """A basic block of the bare loop's ResNet18."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride > 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(h + self.shortcut(x))


def resnet_module() -> nn.Module:
    """The bare loop's reduced ResNet18."""
    layers: list[nn.Module] = [nn.Conv2d(3, 20, 3, 1, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU()]
    in_channels = 20
    for stage in range(4):
        for block in range(2):
            out_channels = 20 * 2**stage
            stride = 2 if stage and not block else 1
            layers.append(Block(in_channels, out_channels, stride))
            in_channels = out_channels
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(in_channels, 100))


def permutation_work(
    device: torch.device,
    method: Method,
    past_tasks: int,
    steps: int,
    width: int,
    slots_per_task: int = 256,
    memory_batch_size: int = MEMORY_BATCH,
) -> Work:
    """An MLP with hidden layers of this width, on permutations of random images."""
    tasks = past_tasks + 1
    benchmark = permuted(random_dataset((1, 28, 28), 10, 61000), tasks)
    benchmark = benchmark_on_device(benchmark, device)
    make_buffer = ring if method.references == "per_task" else ring_per_class
    with default_device(device):
        buffer = make_buffer(slots_per_task, "task", tasks, benchmark.classes_per_task)
    model = mlp([width, width], "xavier", True, benchmark.image_shape, 10)
    parts = Parts(benchmark, model, method, buffer, sgd(0.0, 0.0), memory_batch_size)
    return Work(parts, past_tasks, steps, lambda: mlp_module(width).to(device))


def split_work(
    device: torch.device,
    steps: int,
    layout: MemoryFormat = "channels_first",
    precision: Precision = "float32",
) -> Work:
    """A-GEM with the reduced ResNet18, on random images of 100 classes in 20 tasks, of which 10 are
    over. Layout and precision are gradalign's alone."""
    benchmark = split(random_dataset((3, 32, 32), 100, 51000), 5, "task")
    benchmark = benchmark_on_device(benchmark, device)
    with default_device(device):
        buffer = ring_per_class(13, "class", 20, 5)
    model = resnet18(20, True, benchmark.image_shape, 100, precision, layout)
    parts = Parts(benchmark, model, agem(), buffer, sgd(0.0, 0.0), MEMORY_BATCH)
    return Work(parts, 10, steps, lambda: resnet_module().to(device))


def work_factories(device: torch.device) -> dict[str, Callable[[], Work]]:
    """The functions that make the pieces of work, by their names."""
    scale = 1 if device == CPU else 20  # of the steps of a round
    resnet = partial(split_work, device, 2 * scale)
    return {
        "agem_mlp": lambda: permutation_work(device, agem(), 10, 100 * scale, 256, 250),
        "gem_mlp": lambda: permutation_work(device, gem(0.5, 1e-3, False), 19, 20 * scale, 100),
        "agem_resnet": resnet,
        "agem_resnet_channels_last": lambda: resnet("channels_last"),
        "agem_resnet_bfloat16": lambda: resnet("channels_last", "bfloat16"),
    }


def round_rows(stream: Stream, work: Work) -> Tensor:
    """The rows [steps * BATCH] that a round trains on."""
    return stream.train_rows[work.past_tasks][: work.steps * BATCH]


def with_full_memory(
    parts: Parts, learner: Learner, train_rows: tuple[Tensor, ...], past_tasks: int
) -> Learner:
    """The learner with the first training rows of every past task in the slots of that task."""
    memory = learner.memory
    rows, tasks = memory.rows.clone(), memory.tasks.clone()
    for task in range(past_tasks):
        slots = parts.buffer.task_slots[task]
        rows[slots], tasks[slots] = train_rows[task][: len(slots)].to(rows.device), task
    return learner._replace(memory=memory._replace(rows=rows, tasks=tasks))


def random_draws(work: Work, replicas: Sequence[Replica]) -> Draw:
    """The draws [steps, R] of a round."""
    parts, leading_shape = work.parts, (work.steps, len(replicas))
    slots = len(parts.buffer.task_slots.unique())
    rows = torch.stack([round_rows(r.stream, work).view(-1, BATCH) for r in replicas], 1)
    return Draw(
        rows=rows,
        tasks=torch.full_like(rows, work.past_tasks),
        reference_uniform=torch.rand(*leading_shape, slots),
        replay_uniform=torch.rand(*leading_shape, parts.method.memory_batches, slots),
        align_uniform=torch.rand(*leading_shape, 0),
        buffer_measure_uniform=torch.rand(*leading_shape, 0),
        insert_uniform=torch.rand(*rows.shape, 1),
        noise_keys=torch.zeros(*leading_shape, 0, dtype=torch.long),
        augment_uniform=torch.rand(*leading_shape, 0, 0),
        lr=torch.full(leading_shape, LR),
    )


def gradalign_round(work: Work, engine: Engine, replica_count: int) -> Round:
    """A round of gradalign, which measures a step in ten."""
    parts, past_tasks, device = work.parts, work.past_tasks, engine.device
    replicas = [
        Replica(seed, LR, parts.method, parts.benchmark.make_stream(seed))
        for seed in range(replica_count)
    ]
    views = to_device(tree_stack([replica.stream.view for replica in replicas]), device)
    learners = tree_stack(
        [
            with_full_memory(
                parts, new_learner(parts, replica, device), replica.stream.train_rows, past_tasks
            )
            for replica in replicas
        ]
    )
    with default_device(device):
        views = with_cached_reference_examples(parts, past_tasks, learners, views)
    measured, plain = (
        make_step(parts, past_tasks, engine.make_gradient_function, m) for m in (True, False)
    )
    cycle = [measured] + [plain] * (MEASURE_EVERY - 1)

    def run_round() -> Learner:
        nonlocal learners
        draws = random_draws(work, replicas)
        with default_device(device):
            learners, _ = engine.run_steps(cycle, learners, to_device(draws, device), views)
        return learners

    return run_round


def float_images(work: Work, stream: Stream, rows: Tensor, task: int) -> Tensor:
    """The images of a task's rows as float tensors, as a loader would have prepared them: [n,
    pixels], or [n, channels, height, width] for convolutions."""
    benchmark, pixel_source = work.parts.benchmark, stream.view.pixel_source
    images = benchmark.images[rows.to(benchmark.images.device)].float() / 255
    if isinstance(pixel_source, Tensor):
        images = images[:, pixel_source[task].to(images.device)]
    return images.view(-1, *benchmark.image_shape) if work.parts.model.convolutional else images


class BareLoop:
    """The bare loop: A-GEM, or GEM's gradients without its quadratic program.

    branches: whether a step looks at a dot product and acts only on a conflict, as hand-written
    code does. A captured step has no branches.
    """

    def __init__(self, work: Work, device: torch.device, branches: bool) -> None:
        """Draw the network and the stream, and fill the memory with examples of the past tasks."""
        self.parts, self.past_tasks, self.steps = work.parts, work.past_tasks, work.steps
        self.branches = branches
        benchmark, slots = self.parts.benchmark, self.parts.buffer.task_slots.shape[1]
        stream = benchmark.make_stream(0)
        self.module = work.make_module()
        self.weights = list(self.module.parameters())
        self.visible_logit_mask = to_device(stream.view.visible_logit_mask, device)
        self.pixel_source = to_device(stream.view.pixel_source, device)
        memory_rows = [stream.train_rows[task][:slots] for task in range(self.past_tasks)]
        self.memory_images = torch.cat(
            [float_images(work, stream, rows, task) for task, rows in enumerate(memory_rows)]
        )
        self.memory_labels = benchmark.labels[torch.cat(memory_rows).to(device)]
        self.memory_tasks = torch.arange(self.past_tasks, device=device).repeat_interleave(slots)
        self.slots_per_task = slots
        # the memory of the present task, which no reference reads
        self.present_images = self.memory_images[:slots].clone()
        self.present_labels = self.memory_labels[:slots].clone()
        self.rows = round_rows(stream, work).to(device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)  # of a captured step
        self.batch_indices = torch.arange(BATCH, device=device)

    def gradient(self, images: Tensor, labels: Tensor, tasks: Tensor | int) -> Tensor:
        """The gradient [P] of the mean cross-entropy."""
        logits = self.module(images)
        if isinstance(self.visible_logit_mask, Tensor):
            logits = logits.masked_fill(~self.visible_logit_mask[tasks], -torch.inf)
        gradients = torch.autograd.grad(cross_entropy(logits, labels), self.weights)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def gem_direction(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient on the batch, with the references of all past tasks added on a conflict; the
        quadratic program is left out, in favour of the bare loop."""
        references = []
        for task in range(self.past_tasks):
            slots = slice(task * self.slots_per_task, (task + 1) * self.slots_per_task)
            references.append(
                self.gradient(self.memory_images[slots], self.memory_labels[slots], task)
            )
        G = torch.stack(references)
        g = self.gradient(images, labels, self.past_tasks)
        if not self.branches or (G @ g < 0).any():
            g = g + 0.5 * G.sum(0)
        return g

    def agem_direction(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient on the batch, projected as in A-GEM."""
        slots = (
            torch.rand(len(self.memory_images), device=self.memory_images.device)
            .topk(self.parts.memory_batch_size or len(self.memory_images))
            .indices
        )
        r = self.gradient(
            self.memory_images[slots], self.memory_labels[slots], self.memory_tasks[slots]
        )
        g = self.gradient(images, labels, self.past_tasks)
        dot = g @ r
        if not self.branches or dot < 0:
            g = g - dot.clamp_max(0) / (r @ r) * r
        return g

    def step(self, rows: Tensor, slots: Tensor) -> None:
        """A step on these rows [BATCH] of the dataset, which are then written to these slots
        [BATCH] of the present task."""
        benchmark = self.parts.benchmark
        images, labels = benchmark.images[rows].float() / 255, benchmark.labels[rows]
        if isinstance(self.pixel_source, Tensor):
            images = images[:, self.pixel_source[self.past_tasks]]
        if self.parts.model.convolutional:
            images = images.view(-1, *benchmark.image_shape)
        per_task = self.parts.method.references == "per_task"
        find_direction = self.gem_direction if per_task else self.agem_direction
        direction = find_direction(images, labels)
        with torch.no_grad():
            start = 0
            for weight in self.weights:
                end = start + weight.numel()
                weight.sub_(LR * direction[start:end].view_as(weight))
                start = end
            self.present_images[slots], self.present_labels[slots] = images, labels

    def run_round(self) -> None:
        """Take the steps of a round."""
        for step in range(self.steps):
            slots = (step * BATCH + self.batch_indices) % self.slots_per_task
            self.step(self.rows[step * BATCH : (step + 1) * BATCH], slots)

    def step_at_position(self) -> None:
        """The step of number `position`, which moves on by one, so that a graph can repeat it."""
        indices = self.position * BATCH + self.batch_indices
        self.step(self.rows[indices], indices % self.slots_per_task)
        self.position.add_(1)


def bare_round(work: Work, device: torch.device) -> Round:
    """A round of the bare loop."""
    return BareLoop(work, device, branches=True).run_round


def captured_bare_round(work: Work, device: torch.device, capture: Capture) -> Round:
    """A round of the bare loop, whose step is captured once and then replayed."""
    loop = BareLoop(work, device, branches=False)
    replay = capture(loop.step_at_position)

    def run_round() -> None:
        loop.position.zero_()
        for _ in range(work.steps):
            replay()

    return run_round


def avalanche_round(work: Work, prepared_images: bool) -> Round:
    """A round of Avalanche, on float images prepared beforehand, or on bytes, as in its own
    benchmarks."""
    parts, past_tasks = work.parts, work.past_tasks
    benchmark, stream = parts.benchmark, parts.benchmark.make_stream(0)
    permutations = stream.view.pixel_source

    def task_examples(rows: Tensor, task: int) -> tuple[Tensor, Tensor]:
        if prepared_images:
            return float_images(work, stream, rows, task), benchmark.labels[rows]
        return benchmark.images[rows].view(-1, *benchmark.image_shape[1:]), benchmark.labels[rows]

    slots = parts.buffer.task_slots.shape[1]
    return peers.avalanche_round(
        network=work.make_module(),
        memory=[task_examples(stream.train_rows[t][:slots], t) for t in range(past_tasks)],
        round_examples=task_examples(round_rows(stream, work), past_tasks),
        permutations=permutations
        if isinstance(permutations, Tensor) and not prepared_images
        else None,
        batch_size=BATCH,
        memory_batch_size=None if parts.method.references == "per_task" else MEMORY_BATCH,
        lr=LR,
    )


def operations_per_step(run_round: Round, work: Work) -> float:
    """The floating-point operations of a step in matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        run_round()
    return float(counter.get_total_flops()) / work.steps


def peak_operations_per_second(device: torch.device) -> float:
    """The floating-point operations per second of the device's fastest matrix product."""
    size = 2048 if device == CPU else 8192
    a = torch.rand(size, size, device=device)
    products: dict[str, Round] = {"torch": partial(torch.mm, a, a, out=torch.empty_like(a))}
    if device == CPU and torch.backends.mkldnn.is_available():
        linear = torch.ops.mkldnn._linear_pointwise
        products["oneDNN"] = partial(linear, a, a, None, "none", [], "")
    seconds = round_seconds(products, 5, device)
    return 2 * size**3 / min(min(rounds) for rounds in seconds.values() if rounds)


def round_seconds(
    contestants: dict[str, Round], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """The seconds of each contestant's rounds, measured in turn after a round of warm-up each. One
    that fails in its warm-up is named and has no rounds, so that the others are measured."""

    def run_to_end(run_round: Round) -> None:
        run_round()
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds: dict[str, list[float]] = {}
    running: list[str] = []
    for name, run_round in contestants.items():
        seconds[name] = []
        try:
            run_to_end(run_round)
            running.append(name)
        except Exception as error:  # of another tool, a library or a device
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    for _ in range(rounds):
        for name in running:
            begin = time.perf_counter()
            run_to_end(contestants[name])
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def make_contestants(
    work: Work, device: torch.device, replicas: int
) -> tuple[dict[str, Round], dict[str, int]]:
    """The round of each contestant, and how many replicas it trains.

    replicas: of the contestants that train several.
    """
    contestants = {"bare loop": bare_round(work, device)}
    if device.type == "cuda":
        captured = captured_bare_round(work, device, capture_cuda_graph)
        contestants["bare loop, captured"] = captured
    if peers.INSTALLED and device == CPU and not work.parts.model.convolutional:
        contestants["Avalanche"] = avalanche_round(work, prepared_images=False)
        contestants["Avalanche, prepared images"] = avalanche_round(work, prepared_images=True)
    replica_counts = dict.fromkeys(contestants, 1)
    single = [eager(device), graph(device)]
    several = [streams(device)]
    if not work.parts.model.convolutional:
        several = [eager(device), streams(device), vmap(device)]
    for engines, count in ((single, 1), (several, replicas)):
        for engine in engines:
            name = f"gradalign, {engine.name}" + (f", {count} replicas" if count > 1 else "")
            contestants[name] = gradalign_round(work, engine, count)
            replica_counts[name] = count
    return contestants, replica_counts


def steps_per_second(
    work: Work, device: torch.device, replicas: int, rounds: int
) -> dict[str, list[float]]:
    """The steps per second of each contestant in each round, steps of several replicas counted
    each, and the limit."""
    contestants, replica_counts = make_contestants(work, device, replicas)
    seconds = round_seconds(contestants, rounds, device)
    rates = {
        name: [replica_counts[name] * work.steps / s for s in seconds[name]] for name in seconds
    }
    operations = operations_per_step(contestants["bare loop"], work)
    rates["limit"] = [peak_operations_per_second(device) / operations]
    return rates


def main() -> int:
    """Measure the named pieces of work, or all; print a table and write JSON. Returns 1 where a
    contestant failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    work_names = list(work_factories(CPU))
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(work_names)}")
    parser.add_argument("--device", type=torch.device, default=CPU)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device, threads = options.device, torch.get_num_threads()
    keep_freed_memory()
    recorded.MIN_CALLS_TO_RECORD = 1  # recordings are made in the warm-up
    torch.manual_seed(0)
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{threads} threads"
    table = Table(title=f"steps per second, {hardware}, {platform.machine()}")
    for column in ("work", "contestant", "median", "slowest", "fastest", "of the bare loop"):
        table.add_column(column, justify="left" if column in ("work", "contestant") else "right")
    rates_of_work: dict[str, dict[str, list[float]]] = {}
    for work_name in options.works or work_names:
        work = work_factories(device)[work_name]()
        rates_of_work[work_name] = steps_per_second(work, device, options.replicas, options.rounds)
        bare_median = statistics.median(rates_of_work[work_name]["bare loop"] or [math.nan])
        for contestant, rates in rates_of_work[work_name].items():
            if not rates:
                table.add_row(work_name, contestant, "failed")
                continue
            median = statistics.median(rates)
            cells = [f"{value:.1f}" for value in (median, min(rates), max(rates))]
            table.add_row(work_name, contestant, *cells, f"{median / bare_median:.2f}")
            print(f"{work_name}: {contestant}: {median:.1f} steps/s", file=sys.stderr, flush=True)
        if options.json:  # after each piece of work, so that what was measured is not lost
            content = {
                "torch": torch.__version__,
                "hardware": hardware,
                "steps_per_second": rates_of_work,
            }
            options.json.write_text(json.dumps(content, indent=1) + "\n")
    Console().print(table)
    return 0 if all(all(rates.values()) for rates in rates_of_work.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
