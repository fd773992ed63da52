"""The contract of a method: rules for its functions, then for runs with it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from gradalign_cli.buffers.buffer import keep_memory
from gradalign_cli.contract.alignment_rules import TriedMethod, alignment_rules
from gradalign_cli.contract.findings import Rule, UnaskedRuleError, expect
from gradalign_cli.contract.run_rules import CLOSE, run_rules
from gradalign_cli.contract.small_runs import (
    SMALL,
    PartFactories,
    learner_after_tasks,
    make_parts,
    make_replicas,
    steps_of_task,
    train,
)
from gradalign_cli.contract.trees import difference
from gradalign_cli.engines.eager import eager
from gradalign_cli.errors import UserError
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.method import Method
from gradalign_cli.step.step import make_step
from gradalign_cli.training.replica import new_learner


class MethodSource(NamedTuple):
    """Where methods to try come from.

    build: (**numbers) -> the method as its config makes it, newly built, with these numbers in the
    place of the config's;  replica_numbers: the settings that may differ between replicas, with
    their values.
    """

    build: Callable[..., Method]
    replica_numbers: Mapping[str, float]


def method_rules(source: MethodSource) -> list[Rule]:
    """The rules of a method's contract, in the order in which they are tried."""
    part_factories = SMALL._replace(method=source.build)
    return [
        *alignment_rules(trained_method(part_factories)),
        *run_rules(part_factories),
        Rule(
            "where nothing is remembered, a step is that of fine-tuning",
            lambda: check_step_without_memory(part_factories),
        ),
        Rule("its `report` is tensors", lambda: check_report_tensors(part_factories)),
        Rule(
            "settings that are numbers may differ between replicas",
            lambda: check_replica_numbers(source, part_factories),
        ),
    ]


def trained_method(part_factories: PartFactories) -> TriedMethod:
    """The method with its state after two tasks, or its first state where training fails."""
    parts = make_parts(part_factories)
    replica = make_replicas(parts, (0,))[0]
    untrained = new_learner(parts, replica).method_state
    try:
        state = learner_after_tasks(parts, replica, 2).method_state
    except Exception:  # told by the rule that the method trains
        state = untrained
    return TriedMethod(parts.method, untrained, state, parts.model.layers)


def check_step_without_memory(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a step differs from plain SGD's although nothing is stored."""
    parts = make_parts(part_factories)
    if "acts_without_memory" in parts.method.claims:
        raise UnaskedRuleError("it claims acts_without_memory")
    parts = parts._replace(buffer=parts.buffer._replace(insert=keep_memory))
    # of the same stream
    plain = finetune()._replace(shuffles_tasks_together=parts.method.shuffles_tasks_together)
    replica = make_replicas(parts, (0,))[0]
    start = new_learner(parts, replica)
    for past in (0, 2):
        plain_step = make_step(
            parts._replace(method=plain), past, eager().make_gradient_function, False
        )
        for step in steps_of_task(parts, replica, start, past):
            before = step.before._replace(method_state=())
            expected = plain_step(before, step.draw, step.view)[0].params
            expect(
                torch.allclose(step.after.params, expected, rtol=0, atol=1e-6),
                "with an empty memory a step differs from plain SGD's: references whose "
                "`available` is False must not count, nor batches whose `valid` is 0; a method "
                "that means it claims acts_without_memory",
            )


def check_report_tensors(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where record.json could not hold what the method reports."""
    parts = make_parts(part_factories)
    learners = train(parts, make_replicas(parts, (0, 1)))
    for name, value in parts.method.report(learners.method_state).items():
        expect(
            isinstance(value, torch.Tensor) and value.shape[:1] == (2,),
            f"`report` must give a tensor [R, ...] of all replicas for {name!r}, found {value!r}",
        )


def check_replica_numbers(source: MethodSource, part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a replica's numbers are not read from its state."""
    tried = 0
    for name, value in source.replica_numbers.items():
        for changed in (value / 2, value * 2, 0.25, 0.75):
            try:
                methods = [source.build(), source.build(**{name: changed})]
            except UserError:  # out of its domain
                continue
            if changed == value:
                continue
            parts = make_parts(part_factories)
            together = train(parts, make_replicas(parts, (0, 0), methods)).params[1]
            parts = parts._replace(method=methods[1])
            alone = train(parts, make_replicas(parts, (0,))).params[0]
            change = difference(alone, together, "the parameters", CLOSE)
            expect(
                not change,
                f"{change} between a replica with {name}={changed:g} alone and beside one with "
                f"{name}={value:g}: store {name} in the state that `init` makes, and read it there",
            )
            tried += 1
            break
    if not tried:
        raise UnaskedRuleError("it has no such settings")
