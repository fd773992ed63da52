"""The public namespace: docs/library.md runs, its names exist, and importing it costs nothing."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gradalign_cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "library.md").read_text()


def test_the_examples_of_the_page_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/library.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "did you mean `gem`?" in printed
    assert names["result"].accuracy.shape == (2, 6, 5)
    assert (tmp_path / "runs/gem/metrics.json").exists()
    assert not (tmp_path / "runs/gen").exists()


def test_the_page_the_stub_and_the_namespace_have_the_same_names():
    stub = (ROOT / "gradalign_cli" / "__init__.pyi").read_text()
    stubbed = dict.fromkeys(re.findall(r"(\w+) as \1", stub))
    assert sorted(stubbed) == sorted(gradalign_cli.HOMES)
    for name, home in gradalign_cli.HOMES.items():
        assert getattr(gradalign_cli, name) is getattr(importlib.import_module(home), name)
        assert name in re.findall(r"\w+", PAGE), f"docs/library.md does not name {name}"


def test_the_namespace_imports_nothing_before_a_name_is_used():
    code = "import gradalign_cli, sys; assert 'torch' not in sys.modules; dir(gradalign_cli)"
    code += "; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'secret'"):
        _ = gradalign_cli.secret


def test_the_direction_of_a_user_is_that_of_the_rule():
    g, references = torch.tensor([1.0, 0.0]), torch.tensor([[-1.0, 1.0]])
    torch.testing.assert_close(
        gradalign_cli.direction("agem", g, references), torch.tensor([0.5, 0.5])
    )
    assert torch.equal(gradalign_cli.direction("finetune", g, references), g)
    with pytest.raises(gradalign_cli.UserError, match="`references` must be 1 rows"):
        gradalign_cli.direction("agem", g, references.expand(2, -1))
    with pytest.raises(gradalign_cli.UserError, match="beside a gradient"):
        gradalign_cli.direction("agem", g, g)
