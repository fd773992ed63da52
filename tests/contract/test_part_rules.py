"""`gradalign check` on buffers, networks and benchmarks: ours pass, planted mistakes do not."""

from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.contract.benchmark_rules import benchmark_rules
from gradalign_cli.contract.buffer_rules import buffer_rules
from gradalign_cli.contract.findings import try_rule, try_rules
from gradalign_cli.contract.model_rules import model_rules
from gradalign_cli.models.mlp import mlp
from tests.methods.catalogue import BUFFERS, buffer_factory
from tests.runs import noisy

HOME = Path(__file__)
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "module")


def unbroken(rules):
    findings = try_rules(rules, HOME)
    assert [f for f in findings if f.verdict not in ("holds", "not asked")] == []


def reason(rules, words):
    """What the rule with these words finds wrong."""
    (rule,) = [rule for rule in rules if words in rule.sentence]
    finding = try_rule(rule, HOME)
    assert finding.verdict == "fails"
    return finding.reason


@pytest.mark.parametrize("name", BUFFERS)
def test_every_shipped_buffer_keeps_the_contract(name):
    """tests/engines has the rules of the engines for all buffers."""
    rules = buffer_rules(partial(buffer_factory(name), 18, "total"))
    unbroken([rule for rule in rules if "(engine" not in rule.sentence])


@pytest.mark.parametrize("name", MODELS)
def test_every_shipped_network_keeps_the_contract(name):
    config = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    if name == "progressive":  # its columns must divide the logits
        config.columns = 7
    unbroken(model_rules(lambda shape, outputs: call_target(
        "model", config, shape=shape, outputs=outputs
    )))  # fmt: skip


def test_a_network_with_dropout_keeps_the_contract():
    unbroken(model_rules(noisy))


def test_benchmarks_keep_the_contract(tiny):
    for scenario in ("task", "class", "domain"):
        unbroken(benchmark_rules(lambda scenario=scenario: split(tiny, 2, scenario)))


def mistaken_buffer(tasks, classes_per_task, **changes):
    buffer = reservoir(18, "total", tasks, classes_per_task)
    return buffer._replace(**{name: make(buffer) for name, make in changes.items()})


@pytest.mark.parametrize(
    ("words", "advice", "changes"),
    [
        (
            "an empty memory",
            "start from empty_memory",
            {"init": lambda b: lambda: b.init()._replace(rows=torch.zeros(18))},
        ),
        (
            "belongs to some task",
            "shares all of them",
            {"task_slots": lambda b: torch.arange(18)},
        ),
        (
            "what is stored has come",
            "which has not come: write Arrivals.rows",
            {"insert": lambda b: lambda m, a: b.insert(m, a._replace(rows=a.rows * 0 + 149))},
        ),
        (
            "what is stored has come",
            "is not of that task: write Arrivals.tasks",
            {"insert": lambda b: lambda m, a: b.insert(m, a._replace(tasks=a.tasks * 0))},
        ),
        (
            "ended tasks stay",
            "leave `keeps_ended_tasks` out",
            {"keeps_ended_tasks": lambda b: True},
        ),
        (
            "stores something",
            "still empty",
            {"insert": lambda b: lambda m, a: m},
        ),
        (
            "in place",
            "only a new learner may",
            {"insert": lambda b: lambda m, a: m._replace(rows=m.rows.add_(1))},
        ),
    ],
)  # fmt: skip
def test_a_planted_mistake_of_a_buffer_is_found(words, advice, changes):
    assert advice in reason(buffer_rules(partial(mistaken_buffer, **changes)), words)


def mistaken_model(shape, outputs, **changes):
    model = mlp([8], "torch", True, shape, outputs)
    return model._replace(**{name: make(model) for name, make in changes.items()})


@pytest.mark.parametrize(
    ("words", "advice", "changes"),
    [
        ("by its generator", "no other", {"init": lambda m: lambda g: torch.randn(24647)}),
        ("the parts of that vector", "entries in all", {"layers": lambda m: m.layers[1:]}),
        (
            "gives logits",
            "found [3, 6]",
            {"apply": lambda m: lambda *a: m.apply(*a)._replace(logits=m.apply(*a).logits[:, 1:])},
        ),
        (
            "the gradient is finite",
            "is something detached?",
            {"apply": lambda m: lambda p, *a: m.apply(p.detach(), *a)},
        ),
        (
            "in place",
            "the input.0 differs",
            {"apply": lambda m: lambda p, *a: m.apply(p.mul_(0.5), *a)},
        ),
        (
            "for itself alone",
            "use running statistics",
            {"apply": lambda m: lambda p, s, x, *a: m.apply(p, s, x - x.mean(0), *a)},
        ),
        (
            "fit the matrices",
            "must have [3072, 8] columns",
            {"layer_inputs": lambda m: lambda *a: m.layer_inputs(*a)[:1]},
        ),
        (
            "those of single examples",
            "from what autograd finds",
            {"factored_gradients": lambda m: lambda p, x, g: m.factored_gradients(p, x, 2 * g)},
        ),
    ],
)
def test_a_planted_mistake_of_a_network_is_found(words, advice, changes):
    assert advice in reason(model_rules(partial(mistaken_model, **changes)), words)


def mistaken_benchmark(tiny, change_stream):
    benchmark = split(tiny, 2, "task")
    return benchmark._replace(make_stream=lambda seed: change_stream(benchmark.make_stream(seed)))


def moved_rows(stream):
    return stream._replace(train_rows=[rows + 60 for rows in stream.train_rows])


@pytest.mark.parametrize(
    ("words", "advice", "change"),
    [
        ("has rows", "none empty", lambda s: s._replace(test_rows=s.test_rows[1:])),
        ("are rows of", "below 150", moved_rows),
        ("trained and tested", "are in train_rows", lambda s: s._replace(test_rows=s.train_rows)),
        (
            "a seed gives one",
            "when seed 3 is asked for twice",
            lambda s: s._replace(train_rows=[r[torch.randperm(len(r))] for r in s.train_rows]),
        ),
        (
            "is a visible logit",
            "hides a target",
            lambda s: s._replace(
                view=s.view._replace(visible_logit_mask=s.view.visible_logit_mask.flip(0))
            ),
        ),
    ],
)  # fmt: skip
def test_a_planted_mistake_of_a_benchmark_is_found(words, advice, change, tiny):
    assert advice in reason(benchmark_rules(lambda: mistaken_benchmark(tiny, change)), words)
