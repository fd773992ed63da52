"""A table's yaml that is hostile, or only wrong, is refused in a sentence with its file or key."""

import os
import tracemalloc

import pytest

from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.tables.table import load_table, table_names

GOOD = """
title: t
source: s
status: VERIFIED
tolerance: {ACC: 0.1}
cells:
  A: {overrides: [method=agem], published: {ACC: 0.5}, minutes: 1}
"""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "a bomb": (BOMB, r"evil\.yaml must have no aliases, found \*a"),
    "code": ("title: !!python/object/apply:os.mkdir [MADE]", r"evil\.yaml must be valid yaml"),
    "a resolver": ("title: ${oc.env:HOME}", r"evil\.yaml must have no references"),
    "depth": ("[" * 60_000, r"evil\.yaml must have at most 10 entries inside each other"),
    "size": ("#" * 2**17 + "#", r"evil\.yaml must have at most 131072 bytes"),
    "no yaml": ("{", r"evil\.yaml must be valid yaml"),
    "no text": ("\0", r"evil\.yaml must be valid yaml"),
    "a long number": ("title: " + "9" * 9000, r"evil\.yaml must be valid yaml"),
    "twice": (GOOD + "title: u", r"evil\.yaml must be valid yaml \(.*duplicate key"),
    "a list": ("[a]", r"evil\.yaml must be a mapping, found a list"),
    "nothing": ("", r"`evil\.title` must be there, text"),
    "no cells": ("{title: t, source: s}", r"`evil\.cells` must be there"),
    "an unknown key": (GOOD + "toleranse: {}", r"`evil\.toleranse` is not known; known are title"),
    "a title of numbers": (GOOD.replace("title: t", "title: 3"), r"`evil\.title` must be text in"),
    "cells in a list": ("{title: t, source: s, cells: [a]}", r"`evil\.cells` must be a mapping"),
    "a cell of text": ("{title: t, source: s, cells: {A: x}}", r"`evil\.cells` must be a mapping"),
    "nothing published": (GOOD.replace("published: {ACC: 0.5}, ", ""), r"A\.published` must be th"),
    "percent": (GOOD.replace("0.5", "50"), r"`evil\.cells\.A\.published` must be a mapping of met"),
    "NaN": (GOOD.replace("0.5", ".nan"), r"`evil\.cells\.A\.published` must be a mapping of metri"),
    "text": (GOOD.replace("0.5", "high"), r"`evil\.cells\.A\.published` must be a mapping of metr"),
    "minutes": (GOOD.replace("minutes: 1", "minutes: -1"), r"A\.minutes` must be a number of min"),
    "tolerance": (GOOD.replace("{ACC: 0.1}", "3"), r"`evil\.tolerance` must be a mapping of metri"),
    "ranked": (GOOD + "ranked: perhaps", r"`evil\.ranked` must be true or false, found 'perhaps'"),
    "an override": (GOOD.replace("[method=agem]", "method"), r"overrides` must be a list of"),
    "an option": (GOOD.replace("method=agem", "--config-dir=x"), r"overrides` must be a list of"),
    "hydra's": (GOOD.replace("method=agem", "+hydra.callbacks.x._target_=y"), r"and none of hydra"),
    "reproduce's own": (GOOD.replace("method=agem", "++quick=true"), "of quick, replicas, rep"),
    "its replicas": (GOOD.replace("method=agem", "'replicas={seed: 1}'"), "of quick, replicas, r"),
    "its seeds": (GOOD.replace("method=agem", "'replicas.seed=[1,2]'"), "of quick, replicas, rep"),
    "a negative accuracy": (GOOD.replace("0.5", "-0.5"), r"A\.published` must be a mapping of me"),
    "two lines": (GOOD.replace("title: t", 'title: "t\\nu"'), r"`evil\.title` must be text in one"),
    "colours": (GOOD.replace("  A:", '  "\\e[31mA":'), r"`evil\.cells` must be a mapping of names"),
    "a sentence with a colon": (GOOD + "differences: [a: b]", "must be a list of sentences, each"),
    "one name twice": (
        "{title: t, source: s, cells: {3: {published: {}}, '3': {published: {}}}}",
        r"`evil\.cells` must be a mapping of names without repetitions",
    ),
    "a metric twice": (
        GOOD.replace("minutes: 1", "unpublished: [LA, LA]"), "unpublished` must not have LA, which",
    ),
    "runs shown nowhere": (GOOD.replace("ACC: 0.5", ""), "A` must list a metric in `published` or"),
    "an unknown metric": (GOOD.replace("ACC: 0.5", "ACCC: 0.5"), r"mapping of metrics \(ACC, BWT"),
    "a cell without a name": ("{title: t, source: s, cells: {'': {}}}", "none empty"),
    "countless runs": (GOOD + "runs: 99999999999999999999", r"`evil\.runs` must be a whole number"),
    "no status": (GOOD.replace("status: VERIFIED", ""), r"status` must be one of VERIFIED.*None"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_table_that_is_not_valid_is_named_executes_nothing_and_takes_no_memory(kind, tmp_path):
    text, sentence = HOSTILE[kind]
    (tmp_path / "table").mkdir()
    (tmp_path / "table/evil.yaml").write_text(text.replace("MADE", str(tmp_path / "made")))
    tracemalloc.start()
    with pytest.raises(UserError, match=sentence) as error:
        load_table(tmp_path, "evil")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700
    assert os.listdir(tmp_path) == ["table"]
    assert peak < 2**24


def test_a_pipe_in_the_place_of_a_table_is_refused_at_once(tmp_path):
    (tmp_path / "table").mkdir()
    os.mkfifo(tmp_path / "table/evil.yaml")
    with pytest.raises(UserError, match=r"evil\.yaml must be a regular file, found a named pipe"):
        load_table(tmp_path, "evil")


def test_the_tables_that_ship_are_valid_and_so_is_a_small_one(tmp_path):
    assert all(load_table(CONF, name).cells for name in table_names(CONF))
    (tmp_path / "table").mkdir()
    (tmp_path / "table/good.yaml").write_text(GOOD)
    (cell,) = load_table(tmp_path, "good").cells
    assert (cell.published, cell.tolerance) == ({"ACC": 0.5}, {"ACC": 0.1})
