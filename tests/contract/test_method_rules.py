"""`gradalign check` finds what is wrong with a method, and nothing where nothing is."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from gradalign_cli.contract.findings import try_rule, try_rules
from gradalign_cli.contract.method_rules import MethodSource, method_rules
from gradalign_cli.contract.trees import difference
from tests.contract import mistaken
from tests.methods.catalogue import METHODS, method

HOME = Path(mistaken.__file__)
# each mistake, words of the rule that finds it, and of the advice
MISTAKES = {
    "changes_g_in_place": ("`align` changes nothing in place", "gradients.g is written into"),
    "has_the_wrong_type": ("type of the gradient", "float32 of gradients of torch.float64"),
    "has_a_state_that_grows": ("`align` leaves the form", r"was torch.float32 \[\d\] and is"),
    "branches_on_a_tensor": ("batched", r"mistaken.py, line \d+: .* torch.where"),
    "draws_from_the_global_generator": ("no global generator", "Gradients.random_numbers"),
    "projects_with_the_wrong_sign": ("claimed: no step raises", "look at the sign"),
    "is_nan_at_zero": ("is finite", "NaN or infinite entries of references that are zero"),
    "remembers_in_python": ("all that is remembered", "outside of the state"),
    "remembers_in_the_module": ("repeated is the same", "a variable of the module"),
    "has_the_wrong_shape": ("has the shape", r"shape \[\d+\] like g, found shape \[1, \d+\]"),
    "reads_an_item": ("recorded", r"mistaken.py, line \d+: .* torch.where"),
    "makes_a_tensor_of_numbers": ("captured", "makes a tensor on the CPU"),
    "forgets_its_number_in_the_state": ("numbers may differ", "store share in the state"),
    "counts_a_reference_that_is_not_available": ("nothing is remembered", "must not count"),
    "claims_what_no_one_knows": ("names of claims", "did you mean `hurts_no_reference`"),
    "keeps_a_list_as_state": ("the initial state", "found list"),
}


def rules_of(name):
    numbers = {"share": 0.5} if name == "forgets_its_number_in_the_state" else {}
    return method_rules(MethodSource(getattr(mistaken, name), numbers))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_breaks_its_rule_with_advice(mistake):
    words, advice = MISTAKES[mistake]
    (rule,) = [rule for rule in rules_of(mistake) if words in rule.sentence]
    finding = try_rule(rule, HOME)
    assert finding.verdict == "fails"
    with pytest.raises(AssertionError, match=advice):
        raise AssertionError(finding.reason)


@pytest.mark.parametrize("mistake", ["branches_on_a_tensor", "reads_an_item"])
def test_a_look_at_a_tensor_breaks_every_engine_that_does_not_go_step_by_step(mistake):
    engines = [r for r in rules_of(mistake) if "(engine" in r.sentence]
    assert [try_rule(rule, HOME).verdict for rule in engines] == ["fails"] * 3


def test_a_method_without_a_mistake_breaks_no_rule_and_leaves_the_generators_alone():
    states = random.getstate(), torch.get_rng_state(), np.random.get_state(legacy=False)
    findings = try_rules(rules_of("right"), HOME)
    assert {finding.verdict for finding in findings} == {"holds", "not asked"}
    assert len([f for f in findings if f.sentence.startswith("claimed")]) == 2
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert repr(np.random.get_state(legacy=False)) == repr(states[2])


def test_rules_that_need_a_broken_one_are_not_tried():
    findings = try_rules(rules_of("has_the_wrong_shape"), HOME)
    assert findings[1].verdict == "fails"
    assert {finding.verdict for finding in findings[2:]} == {"not tried"}


@pytest.mark.parametrize("name", METHODS)
def test_every_shipped_method_keeps_the_contract(name):
    """The rules of the engines only for some methods here: tests/engines has them for all."""
    source = MethodSource(partial(method, name), {})
    rules = method_rules(source)
    if name not in ("er", "gem", "gpm"):
        rules = [rule for rule in rules if "(engine" not in rule.sentence]
    findings = try_rules(rules, HOME)
    assert [f for f in findings if f.verdict not in ("holds", "not asked")] == []


def test_trees_are_compared_by_name_form_and_value():
    ones = torch.ones(2)
    assert difference((ones,), (ones + 1e-6,), "x", 1e-5) == ""
    assert difference((ones,), (ones + 1e-3,), "x", 1e-5).startswith("x.0 differs by up to 0.001")
    assert "was torch.float32 [2] and is torch.float32 [3]" in difference(
        (ones,), (torch.ones(3),), "x", 1.0
    )
    nan, infinite = torch.tensor([torch.nan]), torch.tensor([torch.inf])
    assert difference(nan, nan, "x", 0.0) == difference(infinite, infinite, "x", 0.0) == ""
    assert difference(nan, torch.zeros(1), "x", 1.0) != ""
    assert difference(torch.zeros(1), nan, "x", 1.0) != ""
