"""Methods with one mistake each, as an author may make it, and one without."""

import torch

from gradalign_cli.methods.method import Method
from gradalign_cli.numerics.vectors import ratio_or_zero

HISTORY = []


def projection(g, r):
    """g without its part against r."""
    return g - ratio_or_zero((r @ g).clamp_max(0), r @ r) * r


def pooled(align, **options):
    return Method(align, references="pooled", **options)


def right() -> Method:
    def align(gradients, state):
        return projection(gradients.g, gradients.references[0]), state

    return pooled(align, claims=("hurts_no_reference", "projects_orthogonally"))


def changes_g_in_place() -> Method:
    def align(gradients, state):
        g, r = gradients.g, gradients.references[0]
        g -= (r @ g).clamp_max(0) / (r @ r).clamp_min(1e-30) * r
        return g, state

    return pooled(align)


def has_the_wrong_type() -> Method:
    def align(gradients, state):
        return projection(gradients.g, gradients.references[0]).float(), state

    return pooled(align)


def has_a_state_that_grows() -> Method:
    def align(gradients, state):
        return gradients.g, torch.cat([state, gradients.loss[None]])

    return pooled(align, init=lambda setup: setup.params.new_zeros(1))


def branches_on_a_tensor() -> Method:
    def align(gradients, state):
        g, r = gradients.g, gradients.references[0]
        return (projection(g, r) if r @ g < 0 else g), state

    return pooled(align)


def draws_from_the_global_generator() -> Method:
    def align(gradients, state):
        return gradients.g * torch.rand_like(gradients.g), state

    return pooled(align)


def projects_with_the_wrong_sign() -> Method:
    def align(gradients, state):
        g = gradients.g
        return 2 * g - projection(g, gradients.references[0]), state

    return pooled(align, claims=("hurts_no_reference",))


def is_nan_at_zero() -> Method:
    def align(gradients, state):
        g, r = gradients.g, gradients.references[0]
        return g - (r @ g).clamp_max(0) / (r @ r) * r, state

    return pooled(align)


def remembers_in_python() -> Method:
    last = []

    def align(gradients, state):
        direction = gradients.g + (0.5 * last[-1] if last else 0)
        last.append(gradients.g)
        return direction, state

    return pooled(align)


def remembers_in_the_module() -> Method:
    def align(gradients, state):
        HISTORY.append(1)
        return gradients.g / len(HISTORY), state

    return pooled(align)


def has_the_wrong_shape() -> Method:
    def align(gradients, state):
        return projection(gradients.g, gradients.references[0])[None], state

    return pooled(align)


def reads_an_item() -> Method:
    def align(gradients, state):
        g, r = gradients.g, gradients.references[0]
        return g * (1 - min((r @ g).item(), 0.0)), state

    return pooled(align)


def makes_a_tensor_of_numbers() -> Method:
    def align(gradients, state):
        return gradients.g * torch.tensor([0.5]), state

    return pooled(align)


def forgets_its_number_in_the_state(share: float = 0.5) -> Method:
    def align(gradients, state):
        return share * gradients.g, state

    return pooled(align)


def counts_a_reference_that_is_not_available() -> Method:
    def align(gradients, state):
        return gradients.g * (0.5 + gradients.references.abs().sum()), state

    return pooled(align)


def keeps_a_list_as_state() -> Method:
    return pooled(lambda gradients, state: (gradients.g, state), init=lambda setup: [])


def claims_what_no_one_knows() -> Method:
    return pooled(lambda gradients, state: (gradients.g, state), claims=("hurts_no_refrence",))
