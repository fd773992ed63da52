"""The configs with the tiny table in them, and one run of it."""

import shutil

import pytest
from omegaconf import OmegaConf

from gradalign_cli.composition.paths import CONF
from tests.tables.tiny_table import AGEM_ONCE, TABLE, reproduce_tiny


@pytest.fixture
def conf(tmp_path):
    """A copy of the shipped configs, with TABLE as one table more."""
    return conf_with_tiny_table(tmp_path)


@pytest.fixture(scope="session")
def agem_runs(tmp_path_factory):
    """The folder of the runs of TABLE with one run, of the first seed of A-GEM."""
    folder = tmp_path_factory.mktemp("agem")
    assert reproduce_tiny(conf_with_tiny_table(folder), AGEM_ONCE, folder)[0] == 0
    return folder / "tiny/runs"


def conf_with_tiny_table(folder):
    shutil.copytree(CONF, folder / "conf")
    OmegaConf.save(OmegaConf.create(TABLE), folder / "conf/table/tiny.yaml")
    return folder / "conf"
