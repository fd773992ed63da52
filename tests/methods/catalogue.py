"""Every shipped method and buffer, built from its yaml."""

from functools import partial

from hydra.utils import get_method
from omegaconf import OmegaConf

from gradalign_cli.composition.construct import call_target, declared_types
from gradalign_cli.composition.paths import CONF

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
BUFFERS = sorted(path.stem for path in (CONF / "buffer").glob("*.yaml"))


def method(name, **changed):
    """A method with the values of its yaml, except for those changed."""
    chosen = OmegaConf.load(CONF / "method" / f"{name}.yaml")
    return call_target("method", OmegaConf.merge(chosen, changed))


def factory(group, name):
    """The function a yaml names."""
    return get_method(OmegaConf.load(CONF / group / f"{name}.yaml")["_target_"])


def buffer_factory(name):
    """The function of a buffer, with the numbers of its yaml beside capacity and per."""
    chosen = OmegaConf.load(CONF / "buffer" / f"{name}.yaml")
    left = ("_target_", "capacity", "per")
    return partial(factory("buffer", name), **{k: v for k, v in chosen.items() if k not in left})


def numbers(name):
    """The hyper-parameters of a method that may differ between replicas."""
    return [n for n, kind in declared_types(factory("method", name)).items() if kind is float]
