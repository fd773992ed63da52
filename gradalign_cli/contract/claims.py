"""What a method may claim of its directions (`Method.claims`), as tests on gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import Claim, Gradients, Method, keep_gradient


class ClaimTest(NamedTuple):
    """holds: (method, gradients, state, direction [P]) -> whether the claim is true of a direction;
    sentence: what it says;  advice: what to do where it is not true."""

    holds: Callable[[Method, Gradients, Any, Tensor], bool]
    sentence: str
    advice: str


def equals_gradient(method: Method, gradients: Gradients, state: Any, direction: Tensor) -> bool:
    """Whether the direction is the gradient: the method changes the loss, the way its gradient is
    taken, or the order of the examples."""
    return torch.equal(direction, gradients.g)


def hurts_no_reference(method: Method, gradients: Gradients, state: Any, direction: Tensor) -> bool:
    """Whether a small step against the direction raises no reference loss, to first order."""
    if not len(gradients.references):
        return True
    lengths = gradients.references.norm(dim=1)
    rounding = 1e-10 * lengths.max()  # of a direction that is a sum of references
    longest = torch.maximum(direction.norm(), gradients.g.norm())
    harm = -(gradients.references @ direction)
    return bool((harm <= lengths * (1e-6 * longest + rounding)).all())


def keeps_length(method: Method, gradients: Gradients, state: Any, direction: Tensor) -> bool:
    """Whether the direction is as long as the gradient."""
    return torch.allclose(direction.norm(), gradients.g.norm(), rtol=1e-7, atol=1e-7)


def does_not_lengthen(method: Method, gradients: Gradients, state: Any, direction: Tensor) -> bool:
    """Whether the direction is at most as long as the gradient."""
    return bool(direction.norm() <= gradients.g.norm() * (1 + 1e-6))


def projects_orthogonally(
    method: Method, gradients: Gradients, state: Any, direction: Tensor
) -> bool:
    """Whether the removed part is orthogonal to the direction, and a second projection removes
    nothing."""
    g = gradients.g
    second_direction, _ = method.align(gradients._replace(g=direction), state)
    orthogonal = abs(direction @ (g - direction)) <= 1e-5 * g.norm() ** 2
    return bool(orthogonal & ((second_direction - direction).norm() <= 1e-5 * g.norm()))


CLAIM_TESTS: dict[Claim, ClaimTest] = {
    "follows_gradient": ClaimTest(
        equals_gradient,
        "the direction is the gradient",
        "let `align` return gradients.g, or leave the claim out",
    ),
    "hurts_no_reference": ClaimTest(
        hurts_no_reference,
        "no step raises the loss of a reference, to first order",
        "look at the sign: the optimizer steps against the direction d, so each reference r must "
        "have d.r >= 0",
    ),
    "keeps_length": ClaimTest(
        keeps_length,
        "the direction is as long as the gradient",
        "scale the direction by |g| / |d|, or leave the claim out",
    ),
    "does_not_lengthen": ClaimTest(
        does_not_lengthen,
        "the direction is at most as long as the gradient",
        "look at the sign and the factor of what is taken away",
    ),
    "projects_orthogonally": ClaimTest(
        projects_orthogonally,
        "what is removed is orthogonal to what is left, and a second time removes nothing",
        "look at the sign, and divide by r.r where r is removed",
    ),
}


def testable_claims(method: Method) -> tuple[Claim, ...]:
    """What a method claims of its directions, and what follows from its `align`."""
    follows: tuple[Claim, ...] = ("follows_gradient",) if method.align is keep_gradient else ()
    tested = tuple(claim for claim in method.claims if claim in CLAIM_TESTS)
    return tuple(dict.fromkeys((*follows, *tested)))
