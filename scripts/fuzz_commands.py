"""Does any command end in a traceback, a hang, or a folder that a refusal leaves behind?

    python scripts/fuzz_commands.py --cases 5000 --seed 0

Draws commands from the settings, their types and the options of the groups, right ones and wrong
ones, and runs each in a fork with limits: 10 s of computing, 2 GiB. A command must run, or refuse
in one sentence with exit code 2 and leave nothing. The commands follow from the seed. Those at
fault are printed, and end the script with exit code 1.
"""

import argparse
import contextlib
import shlex
import signal
import sys
from collections import Counter
from functools import cache
from typing import Any, get_type_hints

from forked_commands import Ended, fault, run_forked, warm_up
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gradalign_cli.commands.verbs import VERBS
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.schema import Alignment, Metrics, Settings
from gradalign_cli.composition.targets import ROOM_OF_GROUP

SMALL = ("benchmark.samples_per_task=4", "benchmark.first_tasks=2", "metrics.lca_batches=1")
LONG = ("passes", "tasks", "samples", "batches", "pieces", "patience")  # what makes runs long

WRONG_VALUES = st.sampled_from(
    (
        *("x", "null", "true", "-1", "0", "1.5", ".nan", ".inf", "[]", "[1,2]", "[a]", "{a:1}"),
        *("''", "1e400", "99999999999999999999", "${foo}", "${name}", "../x", "x" * 300, "a b"),
        *("[[1]]", "\\", "'", "\u00e9", "\u202e", "-0.0", "1e-320", "1,2", "[", "}", "0x10"),
        *("1_000", "~", "?"),
    )
)
SMALL_NUMBERS = st.sampled_from(["1", "2", "3", "5", "0.1", "0.5", "1.0", "2.0", "1e-3", "1e9"])


@cache
def options(group: str) -> list[str]:
    """The options of a group of configs."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def part_settings() -> dict[str, dict[str, str]]:
    """By the chosen option of a group, such as `method=gem`, the settings that it has and their
    defaults; those that are read elsewhere are 1."""
    settings_of: dict[str, dict[str, str]] = {}
    for group in ROOM_OF_GROUP:
        folder = "method" if group == "objective" else group
        for option in options(folder):
            entries: Any = OmegaConf.to_container(
                OmegaConf.load(CONF / folder / f"{option}.yaml"), resolve=False
            )
            settings_of[f"{group}={option}"] = {
                f"{group}.{name}": "1" if "${" in str(value) else override_value(value)
                for name, value in entries.items()
                if name not in ("defaults", "_target_", "name")
            }
    return settings_of


def override_value(value: Any) -> str:
    """A value of a yaml as it is typed."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value).replace(" ", "")


@st.composite
def misspelt(draw: st.DrawFn, names: list[str]) -> str:
    """One of the names, with a letter left out, doubled or exchanged."""
    name = draw(st.sampled_from(names))
    place = draw(st.integers(0, len(name) - 1))
    letter = draw(st.sampled_from(["", name[place] * 2, "x", ".", "@", "/", "="]))
    return name[:place] + letter + name[place + 1 :]


@st.composite
def values(draw: st.DrawFn, name: str, defaults: dict[str, str]) -> str:
    """A value for a setting: its default, a small number, or what it cannot have."""
    kind = draw(st.integers(0, 5))
    if kind < 4:
        return defaults.get(name, "1")
    if kind == 4:
        return draw(WRONG_VALUES)
    long = name.rpartition(".")[2] in LONG
    return draw(st.sampled_from(["1", "2"])) if long else draw(SMALL_NUMBERS)


@st.composite
def train_commands(draw: st.DrawFn) -> list[str]:
    """The arguments of a `gradalign train`."""
    of_parts = part_settings()
    groups = draw(st.lists(st.sampled_from(list(ROOM_OF_GROUP)), max_size=3, unique=True))
    chosen = []
    for group in groups:
        folder = "method" if group == "objective" else group
        choices = ["split_digits"] if group == "benchmark" else options(folder)
        wrong = [[*options(folder), "null"]] * draw(st.integers(0, 1))
        chosen.append(f"{group}={draw(st.one_of(*map(st.sampled_from, [choices, *wrong])))}")
    top = [name for name in get_type_hints(Settings) if name not in ("metrics", "alignment")]
    top += [f"metrics.{name}" for name in get_type_hints(Metrics)]
    top += [f"alignment.{name}" for name in get_type_hints(Alignment)]
    top += ["replicas.seed", "replicas.lr", "replicas.strength", "replicas", "paper", "metrics"]
    defaults = {name: text for choice in chosen for name, text in of_parts.get(choice, {}).items()}
    known = [*top, *defaults]
    overrides = []
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.one_of(*[st.sampled_from(known)] * 4, misspelt(known)))
        sign = draw(st.sampled_from([*[""] * 9, "+", "++", "~"]))
        overrides.append(f"{sign}{name}={draw(values(name, defaults))}")
    odd = ["+experiment=split_digits", "+experiment=nosuch", "-m", "--cfg=job", "--info", "foo"]
    odd += ["hydra.run.dir=out", "hydra.run.dir=/dev/null/x", "plugins=[nosuch]", "--nosuch"]
    odd += ["method._target_=os.system", "~method", "+hydra.callbacks.x._target_=os.getcwd"]
    odd += ["--config-dir=.", "--config-path=/nowhere", "--version", "quick=true", "--multirun"]
    extra = draw(st.lists(st.sampled_from(odd), max_size=1)) if draw(st.booleans()) else []
    given_names = {override.lstrip("+~").partition("=")[0] for override in overrides}
    small = [text for text in SMALL if text.partition("=")[0] not in given_names]
    if any(choice.startswith("benchmark=") for choice in chosen):
        # whose settings may be others, and which needs files that are not there
        small = [text for text in small if not text.startswith("benchmark.")]
        small += ["data_dir=/nowhere", *(["quick=true"] if "quick" not in given_names else [])]
    return ["train", *draw(st.permutations([*chosen, *overrides, *extra])), *small]


@st.composite
def other_commands(draw: st.DrawFn) -> list[str]:
    """The arguments of another verb."""
    words = [*options("method"), *options("table"), *ROOM_OF_GROUP, "status", "prepare", "x", ""]
    words += ["--seeds=0", "--budget=0", "--cells=*", "--cells=[", "--help", "--picture=x.svg"]
    words += ["--from=/nowhere", "device=cpu", "bash", "method=gem", "mnist", "--at-once=-1"]
    verb = draw(st.one_of(st.sampled_from([v for v in VERBS if v != "train"]), st.just("trian")))
    arguments = draw(st.lists(st.sampled_from(words), max_size=3))
    if verb == "reproduce":
        arguments.append("--budget=0")
    if verb == "compare":
        arguments = ["--seeds=1", *arguments, *SMALL]
    return [verb, *arguments]


def main(arguments: list[str] | None = None) -> int:
    """Draw and run the commands; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=200, help="how many commands")
    parser.add_argument("--seed", type=int, default=0, help="from which they follow")
    parser.add_argument("--only", metavar="COMMAND", help="this one, as it was printed")
    parsed = parser.parse_args(arguments)
    warm_up()
    ends: Counter[int] = Counter()
    faults: list[str] = []

    def try_command(command: list[str]) -> None:
        ended = run_forked(command)
        ends[ended.code] += 1
        problem = fault(ended)
        if problem:
            faults.append(problem)
            print(f"{problem}: gradalign {shlex.join(command)}\n{last_lines(ended)}", flush=True)

    if parsed.only:
        try_command(shlex.split(parsed.only.removeprefix("gradalign ")))
    else:
        checks = settings(
            max_examples=parsed.cases,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        commands = st.one_of(train_commands(), train_commands(), train_commands(), other_commands())
        # what was tried until a signal counts, also where a shell has let it be ignored
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            seed(parsed.seed)(checks(given(commands)(try_command)))()
    codes = ", ".join(f"{count} ended with {code}" for code, count in sorted(ends.items()))
    print(f"{sum(ends.values())} commands: {codes}; {len(faults)} at fault")
    return int(bool(faults))


def last_lines(ended: Ended) -> str:
    """The end of what a command printed."""
    return "\n".join(f"    {line}" for line in (ended.stdout + ended.stderr).splitlines()[-3:])


if __name__ == "__main__":
    sys.exit(main())
