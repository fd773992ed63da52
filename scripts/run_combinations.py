"""Does every method run with every buffer, in every scenario and stream, or say why not?

    python scripts/run_combinations.py

Takes two steps of each combination on Split-Digits, in this process, and prints how many ran, what
the others said, and those that ended in an error of ours, which end the script with exit code 1.
"""

import argparse
import itertools
import re
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.results.terminal import terminal_console

SCENARIOS = ("task", "class", "domain")
STREAMS = ("sharp", "blurry", "task_free")
SMALL = (
    *("benchmark.samples_per_task=6", "benchmark.first_tasks=2", "batch_size=3", "threads=1"),
    *("metrics.lca_batches=0", "model.widths=[8]", "memory_batch=4", "engine=eager"),
)


def options(group: str) -> list[str]:
    """The options of a group of configs."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def with_stream(config: DictConfig, stream: str) -> DictConfig:
    """The config with another stream."""
    if stream == "sharp":
        return config
    merged = OmegaConf.merge(config, {"stream": OmegaConf.load(CONF / "stream" / f"{stream}.yaml")})
    assert isinstance(merged, DictConfig)
    return merged


def run_small(config: DictConfig) -> str:
    """`ran`, or the kind of sentence that refuses the config."""
    with tempfile.TemporaryDirectory() as folder:
        console = terminal_console()
        console.quiet = True
        try:
            train(config, Path(folder) / "run", console)
        except UserError as error:
            return re.sub(r"found .*|\d+", "...", str(error))
    return "ran"


def main() -> int:
    """Try all combinations; returns the exit code."""
    parser = argparse.ArgumentParser(description="Every method with every buffer and stream.")
    parser.add_argument("--methods", nargs="*", default=options("method"))
    methods = parser.parse_args().methods
    warnings.simplefilter("ignore")
    ends: Counter[str] = Counter()
    faults = 0
    for method, buffer in itertools.product(methods, options("buffer")):
        settings = compose_config(CONF, [f"method={method}", f"buffer={buffer}", *SMALL]).settings
        for scenario, stream in itertools.product(SCENARIOS, STREAMS):
            config = with_stream(DictConfig(settings), stream)
            config.benchmark.scenario = scenario
            try:
                ends[run_small(config)] += 1
            except Exception:  # any error that is no sentence is a fault
                faults += 1
                print(f"{method} {buffer} {scenario} {stream}\n{traceback.format_exc(-1)}")
    for sentence, count in ends.most_common():
        print(f"{count:5} {sentence}")
    print(f"{sum(ends.values()) + faults} combinations, {faults} ended in an error")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
