"""How the cost of a step grows with tasks, replicas, memory and width, as JSON and plots.

    python scripts/bench_growth.py DEST [--device DEVICE] [--rounds N]

writes DEST/growth.json and DEST/growth.svg (with matplotlib, of the extra `bench`). One thing grows
at a time; the others are as in bench_step.py. A point is the median of its rounds, its bar reaches
from the fastest to the slowest.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from bench_step import Work, bare, measure, on_permutations, product

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.gem import gem
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.numerics.devices import CPU

Points = dict[str, list[tuple[int, list[float]]]]  # by contestant: (size, milliseconds a step)


def growths(device: torch.device) -> dict[str, tuple[list[int], Callable[[int], Work]]]:
    """What grows: its sizes, and the work at a size."""
    aligned = partial(on_permutations, device, agem())
    steps = 30 if device == CPU else 500
    return {
        "A-GEM: hidden units of each layer": (
            [32, 128, 512, 1024],
            lambda size: aligned(10, steps, size),
        ),
        "A-GEM: memories read in a step": (
            [16, 64, 256, 1024],
            lambda size: aligned(10, steps, 256, memory_batch=size),
        ),
        "A-GEM: memories held for each task": (
            [30, 250, 1000, 5000],
            lambda size: aligned(10, steps, 256, slots=size),
        ),
        "GEM: earlier tasks": (
            [1, 5, 10, 20],
            lambda size: on_permutations(device, gem(0.5, 1e-3, False), size, steps // 3, 100),
        ),
    }


def grown(
    device: torch.device, sizes: list[int], work_of: Callable[[int], Work], rounds: int
) -> Points:
    """One replica and the bare loop at every size."""
    engine = eager(device) if device == CPU else graph(device)
    found: Points = {"bare loop": [], f"gradalign, {engine.name}": []}
    for size in sizes:
        work = work_of(size)
        contestants = (bare(work, device), product(work, engine, 1))
        spent = measure(dict(zip(found, contestants, strict=True)), rounds, device)
        for who, seconds in spent.items():
            found[who].append((size, [1000 * s / work.steps for s in seconds]))
    return found


def together(
    device: torch.device, width: int, memory: int, counts: list[int], rounds: int
) -> Points:
    """Milliseconds of a step of one replica where so many train together."""
    engines: list[Engine] = [eager(device), streams(device), vmap(device)]
    found: Points = {f"gradalign, {engine.name}": [] for engine in engines}
    work = on_permutations(
        device, agem(), 5, 20 if device == CPU else 300, width, memory_batch=memory
    )
    for count in counts:
        runs = {who: product(work, e, count) for who, e in zip(found, engines, strict=True)}
        for who, seconds in measure(runs, rounds, device).items():
            found[who].append((count, [1000 * s / work.steps / count for s in seconds]))
    return found


def draw(found: dict[str, Points], path: Path) -> None:
    """A panel for everything that grew."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(14, 8), layout="constrained")
    for panel, (title, points) in zip(panels.flat, found.items(), strict=True):
        for who, series in points.items():
            sizes = [size for size, _ in series]
            middle = [statistics.median(times) for _, times in series]
            below = [m - min(times) for m, (_, times) in zip(middle, series, strict=True)]
            above = [max(times) - m for m, (_, times) in zip(middle, series, strict=True)]
            panel.errorbar(sizes, middle, (below, above), label=who, marker="o", capsize=3)
        panel.set(title=title, xscale="log", yscale="log", ylabel="ms a step of one replica")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure all growths, write them and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dest", type=Path)
    parser.add_argument("--device", type=torch.device, default=CPU)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    device, rounds = chosen.device, chosen.rounds
    found = {
        title: grown(device, sizes, work_of, rounds)
        for title, (sizes, work_of) in growths(device).items()
    }
    counts = [1, 2, 5, 10, 20] if device == CPU else [1, 10, 100, 1000]
    found["A-GEM, 256-256, 256 memories: replicas"] = together(device, 256, 256, counts, rounds)
    found["A-GEM, 100-100, 10 memories: replicas"] = together(device, 100, 10, counts, rounds)
    chosen.dest.mkdir(parents=True, exist_ok=True)
    (chosen.dest / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, chosen.dest / "growth.svg")


if __name__ == "__main__":
    main()
