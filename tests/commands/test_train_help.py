"""`gradalign train --help`: its examples run, and it tells every setting."""

import itertools
import shlex

import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.commands.setting_rows import LABELS, shell_assignment, type_text
from gradalign_cli.commands.train_help import EXAMPLES
from gradalign_cli.composition.choices import setting_comments
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.parts import build_run
from gradalign_cli.composition.paths import CONF
from tests.commands.test_list import page, refusal, words

YAMLS = [CONF / "config.yaml"] + [
    path
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in ("experiment", "table")
]


def runs_of(command):
    """The overrides of each run that an example starts."""
    verb, *overrides = shlex.split(command)
    assert verb == "train"
    if "-m" not in overrides:
        return [overrides]
    overrides.remove("-m")
    choices = [
        [f"{name}={value}" for value in values.split(",")]
        for name, _, values in (override.partition("=") for override in overrides)
    ]
    return [list(run) for run in itertools.product(*choices)]


@pytest.mark.parametrize("command", [command for command, _ in EXAMPLES])
def test_every_example_is_a_run_and_the_first_eight_need_no_download(
    command, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path))
    position = [example for example, _ in EXAMPLES].index(command)
    for overrides in runs_of(command):
        config = OmegaConf.create(compose_config(CONF, overrides).settings)
        assert (config.benchmark.dataset == "digits") == (position < 8)
        if position < 8:
            _, replicas, _ = build_run(config, torch.device("cpu"))
            assert len(replicas) in (1, 2, 6)


def test_there_are_ten_examples_and_each_is_shown_in_a_line_of_its_own(capsys):
    assert len(EXAMPLES) == 10
    lines = page(capsys, "train", "--help").splitlines()
    assert all(f"gradalign {command}" in lines for command, _ in EXAMPLES)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_help_fits_the_width_and_cuts_nothing(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    output = page(capsys, "train", "method=gem", "--help")
    longest_command = max(len(f"gradalign {command}") for command, _ in EXAMPLES)
    assert all(len(line.rstrip()) <= max(width, longest_command) for line in output.splitlines())
    text = words(output)
    for group in ("method", "buffer", "benchmark", "stream", "model", "optimizer", "schedule"):
        names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        assert ", ".join(names) in text
    for words_of_it in ("replicas.lr=[0.03,0.1]", "objective=NAME", "-m", "--hydra-help"):
        assert words_of_it in text
    assert "powered by Hydra" not in text


def test_every_setting_is_shown_with_its_default_and_comment(capsys):
    text = words(page(capsys, "train", "--help"))
    config = compose_config(CONF, []).settings
    comments = setting_comments(CONF / "config.yaml")
    for name in ("batch_size", "threads", "engine", "memory_batch", "memory_budget"):
        assert words(f"{shell_assignment(name, config[name])} {comments[name]}")[:25] in text
    for group in ("replicas", "metrics", "alignment"):
        for name, value in config[group].items():
            assert shell_assignment(f"{group}.{name}", value) in text
    assert "1000 examples of each test set" in text


def test_the_settings_of_chosen_parts_are_shown_with_type_and_comment(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    output = page(capsys, "train", "method=gem", "buffer=gss_greedy", "--help")
    text = words(output)
    assert "settings of method=gem" in text
    assert "method.margin=0.5 number lower bound on the dual variables" in text
    assert "method.scaled=true true or false" in text
    assert "buffer.compared_examples=10 whole number how many stored examples" in text
    assert page(capsys, "train", "method=gem", "buffer=gss_greedy", "-h") == output
    assert page(capsys, "help", "train") == page(capsys, "train", "--help")


def test_values_are_those_that_the_other_arguments_choose(capsys):
    experiment = words(page(capsys, "train", "+experiment=gem_mnist_rotations", "--help"))
    assert "method.scaled=false" in experiment
    assert "+experiment=gem_mnist_rotations" in experiment
    swept = words(page(capsys, "train", "-m", "method=gem,agem", "batch_size=7", "--help"))
    assert "batch_size=7" in swept
    assert "method=agem" in swept  # the default, as a sweep chooses none


def test_settings_may_stand_before_and_behind_the_option(capsys):
    shown = words(page(capsys, "train", "method=gem", "--help", "buffer=reservoir"))
    assert "method=gem" in shown
    assert "buffer=reservoir" in shown


def test_a_users_part_is_shown_with_its_settings(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # so that no path is divided
    tmp_path = tmp_path / "it's [mine]"
    (tmp_path / "method").mkdir(parents=True)
    (tmp_path / "method" / "half.yaml").write_text(
        "name: half\n_target_: gradalign_cli.methods.eps_soft_gem.eps_soft_gem\neps: 0.3 # [mine]\n"
    )
    arguments = ["--config-dir", str(tmp_path), "method=half", "--help"]
    text = words(page(capsys, "train", *arguments))
    assert f"half*; * in {tmp_path}" in text
    assert "method.eps=0.3 number [mine]" in text
    yaml = "name: half\n_target_: no_module.of_ours\neps: 0.3 # [mine]\n"
    (tmp_path / "method" / "half.yaml").write_text(yaml)
    assert "method.eps=0.3 [mine]" in words(page(capsys, "train", *arguments))


def test_a_part_that_there_is_not_is_refused(capsys):
    assert "gme" in refusal(capsys, "train", "method=gme", "--help")
    assert "the override 'a=[' cannot be read" in refusal(capsys, "train", "a=[", "--help")


def test_every_setting_of_every_part_has_a_comment():
    missing = []
    for path in YAMLS:
        names = [name for name in OmegaConf.load(path) if name not in (*LABELS, "paper", "hydra")]
        comments = setting_comments(path)
        nested = {comment.partition(".")[0] for comment in comments}
        missing += [(path.stem, name) for name in names if name not in {*comments, *nested}]
    assert missing == []
    assert len(YAMLS) > 60


def test_a_value_is_typed_as_a_shell_and_hydra_read_it():
    assert shell_assignment("a", None) == "a=null"
    assert shell_assignment("a", True) == "a=true"
    assert shell_assignment("a", [1, 0.5]) == "'a=[1,0.5]'"
    assert shell_assignment("a", {"lr": [0.1]}) == "'a={lr:[0.1]}'"
    assert type_text(int | None) == "whole number or null"
    assert type_text(list[float] | list[list[float]]) == "list"


def test_comments_are_read_wherever_yaml_lets_them_stand(tmp_path):
    file = tmp_path / "part.yaml"
    file.write_text(
        "# head\na: 'x # y' # of a\nb: # of b\n  c: [1, 2] # of c\n  d: {e: 1}\nf:\n# none\n"
    )
    assert setting_comments(file) == {"a": "of a", "b": "of b", "b.c": "of c"}
