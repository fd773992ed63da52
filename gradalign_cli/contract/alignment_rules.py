"""Rules for a method's functions alone: what `align` makes of gradients, and what it must leave."""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from gradalign_cli.contract.claims import CLAIM_TESTS, testable_claims
from gradalign_cli.contract.families import FAMILIES
from gradalign_cli.contract.findings import BrokenRuleError, Rule, UnaskedRuleError, expect
from gradalign_cli.contract.gradients import hard_gradients, make_gradients, random_gradients
from gradalign_cli.contract.trees import difference, form_change, named_tensors
from gradalign_cli.errors import did_you_mean
from gradalign_cli.methods.method import Claim, Gradients, Method, MethodSetup
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import tree_map

TYPES = torch.float32, torch.float64
RANDOM_TRIALS = 10


class TriedMethod(NamedTuple):
    """A method to try, its initial state and one after training, and the parts of the parameters
    that the states are for."""

    method: Method
    initial_state: Any
    trained_state: Any
    layers: tuple[Layer, ...]


class Direction(NamedTuple):
    """What `align` has made of gradients;  case_name: what is special about these."""

    case_name: str
    gradients: Gradients
    direction: Tensor
    state_after: Any


def alignment_rules(subject: TriedMethod) -> list[Rule]:
    """The rules for `align`, those first that the others build on."""
    return [
        Rule(
            "the initial state is a tensor or a tuple of tensors",
            lambda: check_state_is_tensors(subject),
            is_prerequisite=True,
        ),
        Rule(
            "the direction has the shape [P] of the gradient",
            lambda: check_direction_shape(subject),
            True,
        ),
        Rule("the direction has the type of the gradient", lambda: check_direction_dtype(subject)),
        Rule(
            "the direction is finite, whatever the gradients",
            lambda: check_direction_finite(subject),
        ),
        Rule("`align` leaves the form of the state as it is", lambda: check_state_form(subject)),
        Rule("`align` changes nothing in place", lambda: check_inputs_unchanged(subject)),
        Rule("its claims are names of claims", lambda: check_claim_names(subject)),
        *claim_rules(subject),
    ]


def check_state_is_tensors(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where a state holds something else than tensors."""
    named_tensors(subject.initial_state, "the state")


def directions(subject: TriedMethod, dtype: torch.dtype) -> Iterator[Direction]:
    """The directions of easy and hard gradients of a type."""
    state = with_float_type(subject.trained_state, dtype)
    usual = random_gradients(subject.method, subject.layers, dtype)
    for case, gradients in hard_gradients(usual).items():
        copies = tree_map(torch.clone, state)
        direction, after = subject.method.align(copy_gradients(gradients), copies)
        yield Direction(case, gradients, direction, after)


def copy_gradients(gradients: Gradients) -> Gradients:
    """Gradients that may be written into."""
    copies = tree_map(torch.clone, gradients._replace(layers=()))
    return copies._replace(layers=gradients.layers)


def with_float_type(tree: Any, dtype: torch.dtype) -> Any:
    """A tree with its float32 tensors in another type."""
    return tree_map(lambda t: t.to(dtype) if t.dtype == torch.float32 else t, tree)


def check_direction_shape(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where a direction is no vector like the gradient."""
    for case, gradients, direction, _ in directions(subject, torch.float32):
        is_tensor = isinstance(direction, Tensor)
        text = f"shape {list(direction.shape)}" if is_tensor else type(direction).__name__
        expect(
            is_tensor and direction.shape == gradients.g.shape,
            f"`align` must return (direction, state) with a direction of shape "
            f"{list(gradients.g.shape)} like g, found {text} ({case})",
        )


def check_direction_dtype(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where a direction is not of the gradient's type."""
    for dtype in TYPES:
        for case, _, direction, _ in directions(subject, dtype):
            expect(
                direction.dtype == dtype,
                f"`align` makes {direction.dtype} of gradients of {dtype} ({case}): end with "
                "direction.to(gradients.g.dtype), and make tensors by new_tensor or zeros_like",
            )


def check_direction_finite(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where a direction has an entry that is no number."""
    for dtype in TYPES:
        for case, _, direction, _ in directions(subject, dtype):
            expect(
                bool(direction.isfinite().all()),
                f"`align` makes NaN or infinite entries of {case}: divide by ratio_or_zero of "
                "gradalign_cli.numerics.vectors, or choose by torch.where",
            )


def check_state_form(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where the state changes its form."""
    for dtype in TYPES:
        state = with_float_type(subject.trained_state, dtype)
        for case, _, _, after in directions(subject, dtype):
            change = form_change(state, after, "the state")
            expect(
                not change,
                f"{change} after `align` ({case}): steps are captured and replayed with tensors of "
                "one shape and type; make room for all in `init`",
            )


def check_inputs_unchanged(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where `align` writes into the gradients or the state."""
    usual = random_gradients(subject.method, subject.layers, torch.float32)
    for case, gradients in hard_gradients(usual).items():
        copies, state = copy_gradients(gradients), tree_map(torch.clone, subject.trained_state)
        subject.method.align(copies, state)
        change = difference(subject.trained_state, state, "the state", 0.0)
        for name, field in gradients._asdict().items():
            if isinstance(field, Tensor) and not torch.equal(field, getattr(copies, name)):
                change = change or f"gradients.{name} is written into"
        expect(
            not change,
            f"{change} by `align` itself ({case}): write x = x - y and not x -= y, x.sub_(y) or "
            "x[i] = y, as other code reads the same tensors",
        )


def check_claim_names(subject: TriedMethod) -> None:
    """Raise BrokenRuleError where a method claims what cannot be tried."""
    claims, names = subject.method.claims, get_args(Claim)
    expect(isinstance(claims, tuple), f"`claims` must be a tuple of names, found {claims!r}")
    for claim in claims:
        domain = f"`claims` must be names among {', '.join(names)}"
        expect(claim in names, f"{domain}, found {claim!r}{did_you_mean(str(claim), names)}")


def claim_rules(subject: TriedMethod) -> list[Rule]:
    """A rule for each claim of the method, or one that says that it has none."""

    def nothing_is_claimed() -> None:
        raise UnaskedRuleError(
            "it claims nothing: `claims` of Method can say what its directions are"
        )

    rules = [
        Rule(
            f"claimed: {CLAIM_TESTS[claim].sentence}",
            lambda claim=claim: check_claim(subject, claim),  # type: ignore[misc]
        )
        for claim in testable_claims(subject.method)
    ]
    return rules or [Rule("what it claims of its directions is true", nothing_is_claimed)]


def check_claim(subject: TriedMethod, claim: Any) -> None:
    """Raise BrokenRuleError where a claim of the method is not true of a direction."""
    test = CLAIM_TESTS[claim]
    for case, gradients, state in claim_cases(subject):
        direction, _ = subject.method.align(gradients, state)
        if not test.holds(subject.method, gradients, state, direction):
            raise BrokenRuleError(f"it claims {claim}, which is not true of {case}: {test.advice}")


def claim_cases(subject: TriedMethod) -> Iterator[tuple[str, Gradients, Any]]:
    """Gradients in float64 on which claims are tried, with what is special about them and a state
    for them: random ones in the network's layers, then those that solvers find hard."""
    method, state = subject.method, with_float_type(subject.trained_state, torch.float64)
    for seed in range(RANDOM_TRIALS):
        usual = random_gradients(method, subject.layers, torch.float64, seed)
        for case, gradients in hard_gradients(usual).items():
            yield case, gradients, state
    if method.references == "nothing":
        return
    for name, J in FAMILIES.items():
        references = J[:-1] if method.references == "per_task" else J[:1]
        gradients = make_gradients(J[-1], references)
        setup = MethodSetup(gradients.g, len(references) + 1, 2, gradients.layers)
        yield f"gradients of the family {name!r}", gradients, method.init(setup)
