"""What each method claims of its directions, beside what test_contract.py asks of all.

A new method takes a row. `()` claims nothing: its direction may hurt, lengthen or turn.
"""

import torch


def untouched(method, gradients, state, direction):
    """The direction is the gradient; the method is in the loss or in the order of examples."""
    assert torch.equal(direction, gradients.g)


def harmless(method, gradients, state, direction):
    """No reference is hurt to first order."""
    longest = torch.maximum(direction.norm(), gradients.g.norm())
    assert (
        gradients.references @ direction >= -1e-6 * gradients.references.norm(dim=1) * longest
    ).all()


def of_one_length(method, gradients, state, direction):
    """The direction is as long as the gradient."""
    torch.testing.assert_close(direction.norm(), gradients.g.norm())


def no_longer(method, gradients, state, direction):
    """Nothing is added to the gradient."""
    assert direction.norm() <= gradients.g.norm() * (1 + 1e-6)


def orthogonal(method, gradients, state, direction):
    """What is taken away is orthogonal to what is kept, and all that would be taken away again."""
    g = gradients.g
    assert abs(direction @ (g - direction)) <= 1e-5 * g.norm() ** 2
    again, _ = method.align(gradients._replace(g=direction), state)
    assert (again - direction).norm() <= 1e-5 * g.norm()


CLAIMS = {
    "adam_nscl": (),
    "agem": (harmless, no_longer, orthogonal),
    "agem_r": (harmless, no_longer, orthogonal),
    "agem_layerwise": (harmless, no_longer, orthogonal),
    "aligned_mtl": (),
    "c_flat": (untouched,),
    "c_maml": (untouched,),
    "cagrad": (),
    "cuber": (no_longer, orthogonal),
    "der": (untouched,),
    "derpp": (untouched,),
    "eps_soft_gem": (harmless,),
    "er": (untouched,),
    "er_ace": (untouched,),
    "ewc": (untouched,),
    "ewc_pp": (untouched,),
    "finetune": (untouched,),
    "fs_dgpm": (no_longer,),
    "gdumb": (no_longer,),
    "gem": (harmless,),
    "gpm": (no_longer, orthogonal),
    "gradvac": (),
    "imtl_g": (),
    "independent": (untouched,),
    "joint": (untouched,),
    "logd": (harmless, no_longer, orthogonal),
    "la_maml": (untouched,),
    "lwf": (untouched,),
    "mas": (untouched,),
    "mega1": (),
    "mega2": (of_one_length,),
    "mer": (untouched,),
    "mgda": (harmless,),
    "mir": (untouched,),
    "multimodal": (untouched,),
    "nash_mtl": (),
    "ogd": (no_longer, orthogonal),
    "ogd_plus": (no_longer, orthogonal),
    "owm": (no_longer,),
    "pca_ogd": (no_longer, orthogonal),
    "pcgrad": (),
    "rwalk": (untouched,),
    "s_gem": (harmless, no_longer, orthogonal),
    "sgp": (no_longer,),
    "si": (untouched,),
    "trgp": (no_longer, orthogonal),
    "upgrad": (harmless,),
    "vr_mcl": (untouched,),
}

# what a claim needs to hold exactly: GEM's default ridge gives a little way
EXACTLY = {"gem": {"eps": 1e-9}}

# whose step is not that of plain SGD, whether or not anything is remembered
UNLIKE_SGD = {"adam_nscl", "c_flat", "c_maml", "gdumb", "la_maml", "mer", "vr_mcl"}
