import pytest
from omegaconf import OmegaConf

from gradalign_cli import runner
from gradalign_cli.cli import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.tables.results import composed
from gradalign_cli.tables.tune import best, tune

GIVEN = ["method=agem", "model.widths=[8]", "replicas.lr=[0.001,0.1]", "replicas.seed=[0,1]"]


def test_the_best_mean_over_seeds_wins():
    def own(seed, lr, accuracy):
        return {"seed": seed, "lr": lr, "ACC": accuracy, "BWT": 0.0, "LCA10": 0.1}

    found = [own(0, 0.1, 0.9), own(1, 0.1, 0.1), own(0, 0.2, 0.6), own(1, 0.2, 0.5)]
    chosen, means = best(found)
    assert chosen == {"lr": 0.2}
    assert list(means.values()) == [0.5, 0.55]


def test_only_the_first_three_tasks_are_seen_and_only_the_others_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = set()
    show = runner.show

    def watched(benchmark, view, row, task, weight=(), noise=()):
        seen.update(benchmark.y[row].flatten().tolist())
        return show(benchmark, view, row, task, weight, noise)

    monkeypatch.setattr(runner, "show", watched)
    monkeypatch.setattr("gradalign_cli.learner.show", watched)
    tune(CONF, "mine", GIVEN)
    assert seen == set(range(6))  # three tasks of two digits
    (folder,) = (tmp_path / "tuned" / "runs").iterdir()
    assert len((folder / "accuracy.csv").read_text().splitlines()[0].split(",")) == 2 + 3
    search = f"hydra.searchpath=[file://{tmp_path / 'tuned'}]"
    config, groups = composed(CONF, ["+experiment=mine", search])
    expected, _ = composed(CONF, GIVEN)
    assert config["replicas"] == {"seed": [0, 1], "lr": 0.1}
    assert config["benchmark"] == expected["benchmark"] | {"skip_tasks": 3}
    assert {name: config[name] for name in ("method", "model", "buffer")} == {
        name: expected[name] for name in ("method", "model", "buffer")
    }
    assert groups["method"] == "agem"


def test_an_experiment_of_other_groups_leaves_nothing_of_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "gradalign_cli.train.train",
        lambda config, folder, console: {"replicas": [{"seed": 0, "lr": 0.5, "ACC": 1.0}]},
    )
    given = ["benchmark=permuted_mnist", "buffer=reservoir", "method=agem", "objective=der"]
    tune(CONF, "mine", given)
    search = f"hydra.searchpath=[file://{tmp_path / 'tuned'}]"
    config, _ = composed(CONF, ["+experiment=mine", search])
    expected, _ = composed(CONF, given)
    for name in ("benchmark", "buffer", "method", "objective"):
        assert config[name].keys() == expected[name].keys()
    assert OmegaConf.load(tmp_path / "tuned/experiment/mine.yaml").replicas.lr == 0.5


def test_a_name_that_is_no_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="`NAME` must be letters, digits and underscores"):
        tune(CONF, "../mine", GIVEN)
