"""`gradalign check method=NAME`: does a part keep the contract? Tried in small runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from gradalign_cli.commands.page import Column, page_console, table_or_stacked_cells
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.datasets import load_datasets_as_arguments
from gradalign_cli.composition.overrides import override_key
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.replicas import settings_that_may_vary
from gradalign_cli.composition.targets import target_function
from gradalign_cli.contract.benchmark_rules import benchmark_rules
from gradalign_cli.contract.buffer_rules import buffer_rules
from gradalign_cli.contract.findings import Finding, Rule, try_rules
from gradalign_cli.contract.method_rules import MethodSource, method_rules
from gradalign_cli.contract.model_rules import model_rules
from gradalign_cli.contract.small_runs import SLOTS
from gradalign_cli.errors import UserError

FINDING_COLUMNS = Column("the part must", wraps=True), Column("finding")


def main(arguments: list[str]) -> int:
    """Check the parts that are named; returns the exit code: 1 where a rule is broken."""
    parser = VerbParser(
        prog="gradalign check",
        description="Try a part on the contract that all parts of its kind keep, in small runs.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="as for train: method=NAME, or buffer=, model= or benchmark=; its settings; plugins=",
    )
    parser.add_argument("--config-dir", metavar="FOLDER", help="look for the part in it too")
    options = parser.parse_intermixed_args(arguments)
    groups = [key for key in map(override_key, options.overrides) if key in RULES_OF_GROUP]
    if not groups:
        raise UserError(
            "`gradalign check` must be told a part as in method=agem, one of "
            f"{', '.join(RULES_OF_GROUP)}, found none"
        )
    config = compose_config(CONF, options.overrides, options.config_dir).settings
    whole = OmegaConf.create(config)
    assert isinstance(whole, DictConfig)
    console, findings = page_console(), []
    for group in dict.fromkeys(groups):
        findings += try_part_and_print_findings(group, whole, console)
    return int(any(finding.verdict == "fails" for finding in findings))


def try_part_and_print_findings(group: str, config: DictConfig, console: Console) -> list[Finding]:
    """Try a part on the rules of its group, and print what is found."""
    home = Path(target_function(group, config[group]).__code__.co_filename)
    findings = try_rules(RULES_OF_GROUP[group](config), home)
    print_findings(f"{group} {config[group]['_target_']}", findings, console)
    return findings


def rules_of_method(config: DictConfig) -> Sequence[Rule]:
    """The rules for the method that a config chooses."""
    settings = config.method

    def build(**numbers: float) -> Any:
        merged = OmegaConf.merge(settings, numbers)
        assert isinstance(merged, DictConfig)
        return call_target("method", merged)

    names = settings_that_may_vary("method", settings)
    numbers = {name: float(settings[name]) for name in names if settings.get(name) is not None}
    return method_rules(MethodSource(build, numbers))


def rules_of_buffer(config: DictConfig) -> Sequence[Rule]:
    """The rules for the buffer that a config chooses, with few slots where it has a capacity."""
    small = {"capacity": SLOTS, "capacity_per": "total"}
    changed = {name: value for name, value in small.items() if name in config.buffer}
    settings = OmegaConf.merge(config.buffer, changed)
    assert isinstance(settings, DictConfig)

    def build(tasks: int, classes_per_task: int) -> Any:
        return call_target("buffer", settings, tasks=tasks, classes_per_task=classes_per_task)

    return buffer_rules(build)


def rules_of_model(config: DictConfig) -> Sequence[Rule]:
    """The rules for the network that a config chooses."""

    def build(shape: tuple[int, int, int], outputs: int) -> Any:
        return call_target("model", config.model, shape=shape, outputs=outputs)

    return model_rules(build)


def rules_of_benchmark(config: DictConfig) -> Sequence[Rule]:
    """The rules for the benchmark that a config chooses, on its own dataset."""
    datasets = load_datasets_as_arguments(config)
    return benchmark_rules(lambda: call_target("benchmark", config.benchmark, **datasets))


RULES_OF_GROUP: dict[str, Callable[[DictConfig], Sequence[Rule]]] = {
    "method": rules_of_method,
    "buffer": rules_of_buffer,
    "model": rules_of_model,
    "benchmark": rules_of_benchmark,
}


def print_findings(title: str, findings: Sequence[Finding], console: Console) -> None:
    """Print each rule with what was found, then a sentence for each that is broken."""
    console.print(Text(title, style="bold"))
    rows = [(each.sentence, each.verdict + untried_reason(each)) for each in findings]
    console.print(table_or_stacked_cells(FINDING_COLUMNS, rows, console))
    broken = [finding for finding in findings if finding.verdict == "fails"]
    for finding in broken:
        console.print()
        console.print(Text(f"{finding.sentence}: fails"), style="bold", soft_wrap=True)
        console.print(Text(f"  {finding.reason}"), soft_wrap=True)
    count = sum(finding.verdict == "holds" for finding in findings)
    untried = len(findings) - count - len(broken)
    rest = f", {untried} ask nothing of this part" * (untried > 0)
    console.print(f"\n{count} of {len(findings)} rules hold, {len(broken)} are broken{rest}")


def untried_reason(finding: Finding) -> str:
    """Why a rule was not asked for or tried, behind a colon."""
    return f": {finding.reason}" if finding.verdict in ("not asked", "not tried") else ""
