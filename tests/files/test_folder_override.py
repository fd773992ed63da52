"""Overrides that set folders, as Hydra's own parser reads them."""

from itertools import product
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from gradalign_cli.files.folder_override import folder_override, quoted


def value_of(override):
    """The value that Hydra gives the setting of an override."""
    parsed = OverridesParser.create().parse_override(override)
    return OmegaConf.create({"setting": parsed.value()}).setting


def test_hydra_reads_every_quoted_text_as_it_was():
    for length in range(1, 5):
        for letters in product("\\'${ a", repeat=length):
            text = "".join(letters)
            assert value_of(f"setting={quoted(text)}") == text


@pytest.mark.parametrize(
    "path", ["/plain/path_1", "/my (1)", "ünï", "a,b", "a=b", "[1]", "{a}", 'a"b', "~", "#", "a\\b"]
)
def test_a_folder_of_any_name_is_the_value_of_its_override(path):
    assert value_of(folder_override("setting", Path(path))) == path


def test_a_plain_path_stands_without_quotes():
    assert folder_override("hydra.run.dir", Path("/runs/a_1")) == "hydra.run.dir=/runs/a_1"
