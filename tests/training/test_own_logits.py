"""A class-incremental network is tested with all logits and with each task's own alone."""

import csv
import json

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.benchmarks.split import split
from gradalign_cli.commands.training_run import train as train_config
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.agem import agem
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.results.metrics import metrics
from gradalign_cli.step.draws import data_order_fingerprint
from gradalign_cli.training.evaluation import Evaluator
from tests.runs import make_parts, make_replicas, train

SEEDS = (0, 1)


def trained(tiny, scenario, order="fixed", engine=None):
    """Parts, replicas and outcome of a split run."""
    parts = make_parts(tiny, agem(), scenario=scenario)
    drawn = split(tiny, 2, scenario, class_order=order)
    parts = parts._replace(benchmark=drawn)
    replicas = make_replicas(parts, seeds=SEEDS)
    return parts, replicas, train(parts, replicas, engine)


@pytest.mark.parametrize("order", ["fixed", "drawn"])
def test_with_own_logits_alone_it_is_the_test_of_a_task_incremental_network(order, tiny):
    _, _, outcome = trained(tiny, "class", order)
    parts, replicas, _ = trained(tiny, "task", order)
    views = tree_stack([replica.stream.view for replica in replicas])
    (found,) = Evaluator(parts, replicas, eager()).accuracy(outcome.learners, views, range(3))
    np.testing.assert_array_equal(outcome.task_logits_accuracy[:, -1], found.double().numpy())


def test_fewer_logits_to_confuse_are_never_worse(tiny):
    _, _, outcome = trained(tiny, "class")
    assert (outcome.task_logits_accuracy >= outcome.accuracy).all()
    assert (outcome.task_logits_accuracy > outcome.accuracy).any()


def test_it_costs_no_other_number_and_only_class_incremental_runs_have_it(tiny):
    """Task-incremental runs count own logits alone, domain-incremental tasks share theirs."""
    assert trained(tiny, "task")[2].task_logits_accuracy is None
    assert trained(tiny, "domain")[2].task_logits_accuracy is None
    parts, replicas, outcome = trained(tiny, "class")
    blind = [
        r._replace(stream=r.stream._replace(view=r.stream.view._replace(task_logit_mask=())))
        for r in replicas
    ]
    without = train(parts, blind)
    assert without.task_logits_accuracy is None
    np.testing.assert_array_equal(without.accuracy, outcome.accuracy)
    streams = [[r.stream for r in some] for some in (blind, replicas)]
    assert len({data_order_fingerprint(own, list(SEEDS), 1, False) for own in streams}) == 1


def test_batched_replicas_count_the_same(tiny):
    one, other = (trained(tiny, "class", engine=engine)[2] for engine in (eager(), vmap()))
    assert (
        abs(one.task_logits_accuracy - other.task_logits_accuracy).max() <= 0.1 + 1e-6
    )  # one test example


def test_the_run_folder_has_the_matrix_and_its_metrics(tmp_path):
    overrides = ["benchmark.scenario=class", "benchmark.samples_per_task=60", "model.widths=[8]"]
    config = OmegaConf.create(compose_config(CONF, [*overrides, "metrics.convention=gem"]).settings)
    train_config(config, tmp_path, Console(quiet=True))
    with (tmp_path / "accuracy_task.csv").open() as file:
        head, *lines = csv.reader(file)
    assert head == ["replica", "after_task", *(f"task_{t}" for t in range(1, 6))]
    expected = metrics(np.array(lines, float)[:, 2:], convention="gem")
    (own,) = json.loads((tmp_path / "metrics.json").read_text())["replicas"]
    assert {name: own[f"{name}_task"] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert own["ACC_task"] > own["ACC"]
