"""What the shell offers at the end of a line, and `gradalign info`."""

import subprocess

import pytest

from gradalign_cli import __version__
from gradalign_cli.cli import main
from gradalign_cli.commands.completion import SCRIPTS, completions


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gradalign tr", ["train"]),
        ("gradalign explain mega", ["mega1", "mega2"]),
        ("gradalign explain mega1 m", []),
        ("gradalign list st", ["streams"]),
        ("gradalign reproduce gem-2017-t", ["gem-2017-table2", "gem-2017-table3"]),
        ("gradalign reproduce --quick gem-2017-f", ["gem-2017-figure1"]),
        ("gradalign data ", ["import", "prepare", "status"]),
        ("gradalign new m", ["method", "model"]),
        ("gradalign data prepare ci", ["cifar10", "cifar100"]),
        ("gradalign completion ", ["bash", "fish", "zsh"]),
        ("gradalign train method=sg", ["method=sgp"]),
        ("gradalign train objective=der", ["objective=der", "objective=derpp"]),
        ("gradalign train -m method=gem method.ma", ["method.margin="]),
        ("gradalign train +experiment=split_ci", ["+experiment=split_cifar"]),
        ("gradalign train benchmark.dataset=mn", ["benchmark.dataset=mnist"]),
        ("gradalign tune mine replicas.l", ["replicas.lr="]),
        ("gradalign train -m buffer=ring,res", ["buffer=ring,reservoir"]),
        ("gradalign train -m buffer=ring,ring", ["buffer=ring,ring_per_class"]),
        ("gradalign train quick=", ["quick=false", "quick=true"]),
        ("gradalign train quick=t", ["quick=true"]),
        ("gradalign compare gem meg", ["mega1", "mega2"]),
        ("gradalign explain gem method.m", ["method.margin="]),
    ],
)  # fmt: skip
def test_the_last_word_of_a_line_is_completed(line, words):
    assert completions(line) == words


def test_methods_in_a_folder_of_the_users_are_completed(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "tenth.yaml").write_text("name: tenth\n")
    assert completions(f"gradalign train --config-dir {tmp_path} method=te") == ["method=tenth"]
    assert completions(f"gradalign check --config-dir {tmp_path} method=te") == ["method=tenth"]
    assert completions(f"gradalign explain --config-dir {tmp_path} te") == ["tenth"]
    assert completions(f"gradalign explain tenth --config-dir {tmp_path} ") == []


def test_the_script_for_bash_offers_what_stands_behind_the_equals_sign():
    script = (
        "gradalign() { printf 'method=gpm \\nmethod=gem \\n'; }\n"
        f"{SCRIPTS['bash']}\n"
        "COMP_LINE='gradalign train method=g' COMP_POINT=24 _gradalign\n"
        "printf '[%s]' \"${COMPREPLY[@]}\""
    )
    bash = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (bash.stdout, bash.stderr) == ("[gpm ][gem ]", "")


def test_words_are_followed_by_a_space_unless_more_of_them_comes(capsys):
    assert main(["completion", "words", "gradalign train met"]) == 0
    assert capsys.readouterr().out.splitlines() == ["method.", "method=", "metrics."]
    assert main(["completion", "words", "gradalign expl"]) == 0
    assert capsys.readouterr().out == "explain \n"


def test_info_tells_on_one_screen_what_a_bug_report_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path / "data[/b]"))
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    rows = [line.split()[0] for line in output.splitlines() if line[0] != " "]
    for name in ("gradalign", "python", "packages", "device", "CPU", "memory", "data", "datasets"):
        assert name in rows
    assert __version__ in output
    assert "data[/b]" in "".join(output.split())
    assert "digits" in output
    assert len(output.splitlines()) < 24
    assert max(map(len, output.splitlines())) <= 80
