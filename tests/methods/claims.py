"""What methods claim of their directions (`Method.claims`), as an assertion."""

from gradalign_cli.contract.claims import CLAIM_TESTS, testable_claims

# settings under which a claim holds exactly: GEM's default ridge allows small violations
EXACT_SETTINGS = {"gem": {"eps": 1e-9}}


def assert_claims(method, gradients, state, direction):
    """Assert that a direction is what the method claims of it."""
    for claim in testable_claims(method):
        assert CLAIM_TESTS[claim].holds(method, gradients, state, direction), claim
