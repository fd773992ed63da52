"""What each method claims of its directions, beside what test_contract.py asks of every method.

A method without a row claims nothing: its direction may hurt a reference, be longer than the
gradient, or point elsewhere.
"""

import torch


def keeps_gradient(method, gradients, state, direction):
    """The direction is the gradient: the method changes the loss, the way its gradient is taken, or
    the order of the examples."""
    assert torch.equal(direction, gradients.g)


def hurts_no_reference(method, gradients, state, direction):
    """A small step against the direction raises no reference loss, to first order."""
    lengths = gradients.references.norm(dim=1)
    rounding = 1e-10 * lengths.max()  # of a direction that is a sum of references
    longest = torch.maximum(direction.norm(), gradients.g.norm())
    harm = -(gradients.references @ direction)
    assert (harm <= lengths * (1e-6 * longest + rounding)).all()


def keeps_length(method, gradients, state, direction):
    """The direction is as long as the gradient."""
    torch.testing.assert_close(direction.norm(), gradients.g.norm())


def does_not_lengthen(method, gradients, state, direction):
    """The direction is at most as long as the gradient."""
    assert direction.norm() <= gradients.g.norm() * (1 + 1e-6)


def projects_orthogonally(method, gradients, state, direction):
    """The removed part is orthogonal to the direction, and a second projection removes nothing."""
    g = gradients.g
    assert abs(direction @ (g - direction)) <= 1e-5 * g.norm() ** 2
    second_direction, _ = method.align(gradients._replace(g=direction), state)
    assert (second_direction - direction).norm() <= 1e-5 * g.norm()


CLAIMS = {
    "agem": (hurts_no_reference, does_not_lengthen, projects_orthogonally),
    "agem_r": (hurts_no_reference, does_not_lengthen, projects_orthogonally),
    "agem_layerwise": (hurts_no_reference, does_not_lengthen, projects_orthogonally),
    "c_flat": (keeps_gradient,),
    "c_maml": (keeps_gradient,),
    "cuber": (does_not_lengthen, projects_orthogonally),
    "der": (keeps_gradient,),
    "derpp": (keeps_gradient,),
    "eps_soft_gem": (hurts_no_reference,),
    "er": (keeps_gradient,),
    "er_ace": (keeps_gradient,),
    "ewc": (keeps_gradient,),
    "ewc_pp": (keeps_gradient,),
    "fdr": (keeps_gradient,),
    "finetune": (keeps_gradient,),
    "fs_dgpm": (does_not_lengthen,),
    "gdumb": (does_not_lengthen,),
    "gem": (hurts_no_reference,),
    "gpm": (does_not_lengthen, projects_orthogonally),
    "hal": (keeps_gradient,),
    "icarl": (keeps_gradient,),
    "independent": (keeps_gradient,),
    "joint": (keeps_gradient,),
    "logd": (hurts_no_reference, does_not_lengthen, projects_orthogonally),
    "la_maml": (keeps_gradient,),
    "lwf": (keeps_gradient,),
    "mas": (keeps_gradient,),
    "mega2": (keeps_length,),
    "mer": (keeps_gradient,),
    "mgda": (hurts_no_reference,),
    "mir": (keeps_gradient,),
    "multimodal": (keeps_gradient,),
    "ogd": (does_not_lengthen, projects_orthogonally),
    "ogd_plus": (does_not_lengthen, projects_orthogonally),
    "owm": (does_not_lengthen,),
    "pca_ogd": (does_not_lengthen, projects_orthogonally),
    "rwalk": (keeps_gradient,),
    "s_gem": (hurts_no_reference, does_not_lengthen, projects_orthogonally),
    "sgp": (does_not_lengthen,),
    "si": (keeps_gradient,),
    "trgp": (does_not_lengthen, projects_orthogonally),
    "upgrad": (hurts_no_reference,),
    "vr_mcl": (keeps_gradient,),
}

# settings under which a claim holds exactly: GEM's default ridge allows small violations
EXACT_SETTINGS = {"gem": {"eps": 1e-9}}

# methods whose step differs from plain SGD's even while the memory is empty
NOT_PLAIN_SGD = {
    "adam_nscl",
    "c_flat",
    "c_maml",
    "fs_dgpm",
    "gdumb",
    "icarl",
    "la_maml",
    "mer",
    "vr_mcl",
}
