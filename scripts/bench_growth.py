"""How the cost of a step grows with tasks, replicas, memory and width, as JSON and plots.

    python scripts/bench_growth.py FOLDER [--device DEVICE] [--rounds N]

writes growth.json and growth.svg to the folder. Needs the extra `bench`.
One quantity grows at a time; the others are as in bench_step.py. A point is the median of its
rounds, its bar reaches from the fastest to the slowest.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from bench_step import Work, bare_round, gradalign_round, permutation_work, round_seconds

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import gem
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.numerics.devices import CPU

# for each contestant the sizes, and with each size the milliseconds a step in every round
Points = dict[str, list[tuple[int, list[float]]]]


class Growth(NamedTuple):
    """A quantity that grows: its sizes, and the work at a size."""

    sizes: list[int]
    make_work: Callable[[int], Work]


def growths(device: torch.device) -> dict[str, Growth]:
    """All quantities that grow within one replica, by the titles of their panels."""
    agem_work = partial(permutation_work, device, agem())
    steps = 30 if device == CPU else 500
    return {
        "A-GEM: hidden units of each layer": Growth(
            [32, 128, 512, 1024],
            lambda width: agem_work(10, steps, width),
        ),
        "A-GEM: memories read in a step": Growth(
            [16, 64, 256, 1024],
            lambda size: agem_work(10, steps, 256, memory_batch_size=size),
        ),
        "A-GEM: memories held for each task": Growth(
            [30, 250, 1000, 5000],
            lambda slots: agem_work(10, steps, 256, slots_per_task=slots),
        ),
        "GEM: earlier tasks": Growth(
            [1, 5, 10, 20],
            lambda tasks: permutation_work(device, gem(0.5, 1e-3, False), tasks, steps // 3, 100),
        ),
    }


def growth_points(device: torch.device, growth: Growth, rounds: int) -> Points:
    """The bare loop and one replica of gradalign at every size."""
    engine = eager(device) if device == CPU else graph(device)
    bare_name, gradalign_name = "bare loop", f"gradalign, {engine.name}"
    points: Points = {bare_name: [], gradalign_name: []}
    for size in growth.sizes:
        work = growth.make_work(size)
        contestants = {
            bare_name: bare_round(work, device),
            gradalign_name: gradalign_round(work, engine, 1),
        }
        for name, seconds in round_seconds(contestants, rounds, device).items():
            points[name].append((size, [1000 * s / work.steps for s in seconds]))
    return points


def replica_points(
    device: torch.device,
    width: int,
    memory_batch_size: int,
    replica_counts: list[int],
    rounds: int,
) -> Points:
    """A-GEM with several replicas at a time, in milliseconds a step of one replica."""
    engines: list[Engine] = [eager(device), streams(device), vmap(device)]
    points: Points = {f"gradalign, {engine.name}": [] for engine in engines}
    steps = 20 if device == CPU else 300
    work = permutation_work(device, agem(), 5, steps, width, memory_batch_size=memory_batch_size)
    for count in replica_counts:
        contestants = {
            name: gradalign_round(work, engine, count)
            for name, engine in zip(points, engines, strict=True)
        }
        for name, seconds in round_seconds(contestants, rounds, device).items():
            points[name].append((count, [1000 * s / work.steps / count for s in seconds]))
    return points


def draw_plots(panels: dict[str, Points], path: Path) -> None:
    """Draw a panel for every quantity that grew, by its title."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    figure, axes = pyplot.subplots(2, 3, figsize=(14, 8), layout="constrained")
    for axis, (title, points) in zip(axes.flat, panels.items(), strict=True):
        for name, series in points.items():
            sizes = [size for size, _ in series]
            medians = [statistics.median(times) for _, times in series]
            below = [m - min(times) for m, (_, times) in zip(medians, series, strict=True)]
            above = [max(times) - m for m, (_, times) in zip(medians, series, strict=True)]
            axis.errorbar(sizes, medians, (below, above), label=name, marker="o", capsize=3)
        axis.set(title=title, xscale="log", yscale="log", ylabel="ms a step of one replica")
        axis.set_xlabel(title.partition(": ")[2])
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.xaxis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure all growths, write them and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", type=torch.device, default=CPU)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    device, rounds = options.device, options.rounds
    panels = {
        title: growth_points(device, growth, rounds) for title, growth in growths(device).items()
    }
    counts = [1, 2, 5, 10, 20] if device == CPU else [1, 10, 100, 1000]
    wide, narrow = "A-GEM, 256-256, 256 memories: replicas", "A-GEM, 100-100, 10 memories: replicas"
    panels[wide] = replica_points(device, 256, 256, counts, rounds)
    panels[narrow] = replica_points(device, 100, 10, counts, rounds)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "growth.json").write_text(json.dumps(panels, indent=1) + "\n")
    draw_plots(panels, options.folder / "growth.svg")


if __name__ == "__main__":
    main()
