"""Rules of a contract, and what is found when they are tried on a part."""

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from gradalign_cli.contract.advice import advice_for

Verdict = Literal["holds", "fails", "not asked", "not tried"]


class BrokenRuleError(Exception):
    """A rule that a part breaks: one sentence that says what is wrong and what to do."""


class UnaskedRuleError(Exception):
    """A rule that does not apply to a part: the reason in a few words."""


class Rule(NamedTuple):
    """A rule of a contract.

    sentence: what the part must do.
    test: () -> nothing; raises BrokenRuleError where the part does not, UnaskedRuleError where it
    need not.
    is_prerequisite: whether the rules behind it cannot be tried where this one fails.
    """

    sentence: str
    test: Callable[[], object]
    is_prerequisite: bool = False


class Finding(NamedTuple):
    """What trying a rule has given;  reason: empty where the rule holds."""

    sentence: str
    verdict: Verdict
    reason: str


def expect(is_satisfied: bool, sentence: str) -> None:
    """Raise BrokenRuleError with this sentence unless the part keeps the rule."""
    if not is_satisfied:
        raise BrokenRuleError(sentence)


def try_rules(rules: Iterable[Rule], part_file: Path) -> list[Finding]:
    """Try the rules in order;  part_file: the file of the part, in which errors are located."""
    findings, broken_basis = [], False
    for rule in rules:
        if broken_basis:
            findings.append(Finding(rule.sentence, "not tried", "a rule above fails"))
            continue
        finding = try_rule(rule, part_file)
        findings.append(finding)
        broken_basis = rule.is_prerequisite and finding.verdict == "fails"
    return findings


def try_rule(rule: Rule, part_file: Path) -> Finding:
    """Try one rule. An error of the part's own code breaks it too."""
    try:
        rule.test()
    except BrokenRuleError as broken:
        return Finding(rule.sentence, "fails", str(broken))
    except UnaskedRuleError as reason:
        return Finding(rule.sentence, "not asked", str(reason))
    except Exception as error:  # the part's own code may raise anything
        return Finding(
            rule.sentence, "fails", f"{place_of_error(error, part_file)}{advice_for(error)}"
        )
    return Finding(rule.sentence, "holds", "")


def place_of_error(error: Exception, part_file: Path) -> str:
    """The line of the part's file that an error comes from, such as "half.py, line 12: "."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == part_file
    ]
    return f"{part_file.name}, line {lines[-1]}: " if lines else ""
