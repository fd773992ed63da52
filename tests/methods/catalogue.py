"""Every shipped method and buffer, built from its yaml."""

from functools import partial

from hydra.utils import get_method
from omegaconf import OmegaConf

from gradalign_cli.composition.construct import call_target, declared_types
from gradalign_cli.composition.paths import CONF

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
BUFFERS = sorted(path.stem for path in (CONF / "buffer").glob("*.yaml"))


def method(name, **overrides):
    """A method with the settings of its yaml, except for the overrides."""
    settings = OmegaConf.load(CONF / "method" / f"{name}.yaml")
    return call_target("method", OmegaConf.merge(settings, overrides))


def target_function(group, name):
    """The function that a yaml names by `_target_`."""
    return get_method(OmegaConf.load(CONF / group / f"{name}.yaml")["_target_"])


def buffer_factory(name):
    """A buffer's function with the settings of its yaml, except for its capacity."""
    settings = OmegaConf.load(CONF / "buffer" / f"{name}.yaml")
    for entry in ("_target_", "capacity", "capacity_per"):
        settings.pop(entry)
    return partial(target_function("buffer", name), **settings)


def settings_that_may_vary(name):
    """The hyper-parameters of a method that may differ between replicas: its floats."""
    types = declared_types(target_function("method", name))
    return [parameter for parameter, kind in types.items() if kind is float]
