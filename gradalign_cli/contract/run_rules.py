"""Rules for any part in small runs: nothing in place, no chance of its own, all engines alike."""

import random
from functools import cache

import numpy as np
import torch

from gradalign_cli.contract.findings import Rule, expect
from gradalign_cli.contract.small_runs import (
    PartFactories,
    learner_after_task,
    learner_after_tasks,
    make_parts,
    make_replicas,
    steps_of_task,
    train,
)
from gradalign_cli.contract.trees import difference, form_change
from gradalign_cli.engines.carry import make_plain_run, step_replicas_by_vmap
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine, map_in_loop
from gradalign_cli.engines.recorded import RecordedRun
from gradalign_cli.engines.simulated import simulated_graph
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.simulated_device import SIMULATED, cpu_values_of, simulated_device
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.numerics.vectors import autograd_gradient_and_value, functional_gradient
from gradalign_cli.step.learner import Learner
from gradalign_cli.training.replica import new_learner

MIN_STEPS = 3  # from which on the engines record and capture here
ROUNDING, CLOSE, CLOSE_ON_DEVICE = 1e-6, 1e-4, 1e-3  # relative to 1 + a number


def run_rules(part_factories: PartFactories) -> list[Rule]:
    """The rules for runs with a part that `part_factories` make."""
    # which all others must equal
    eager_learners = cache(lambda: train_two_replicas(part_factories))
    return [
        Rule(
            "it trains on three tasks, and the network stays finite",
            eager_learners,
            is_prerequisite=True,
        ),
        Rule(
            "a step leaves the form of all that it changes",
            lambda: check_learner_form(part_factories),
        ),
        Rule(
            "a step changes nothing in place",
            lambda: check_learner_and_view_unchanged(part_factories),
        ),
        Rule(
            "a run repeated is the same, bit for bit, and no global generator is used",
            lambda: check_reproducible(part_factories, eager_learners()),
        ),
        Rule(
            "all that is remembered is in the state: replicas and runs do not meet",
            lambda: check_no_hidden_state(part_factories, eager_learners()),
        ),
        Rule(
            "batched over replicas (engine vmap): the same",
            lambda: check_vmap(part_factories, eager_learners()),
        ),
        Rule(
            "recorded (engine graph on a CPU): the same",
            lambda: check_recorded(part_factories, eager_learners()),
        ),
        Rule(
            "captured (engine graph on a GPU), on a simulated device: the same",
            lambda: check_simulated_capture(part_factories, eager_learners()),
        ),
    ]


def train_two_replicas(part_factories: PartFactories, engine: Engine | None = None) -> Learner:
    """The learners of two replicas after all tasks. Raises BrokenRuleError where their networks are
    not finite."""
    parts = make_parts(part_factories)
    learners = train(parts, make_replicas(parts, (0, 1)), engine)
    expect(
        bool(learners.params.isfinite().all()),
        "parameters become NaN or infinite on three small tasks with lr 0.02: is something "
        "divided by zero, or does a step point uphill?",
    )
    return learners


def check_learner_form(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a step or the end of a task changes the form of the learner."""
    parts = make_parts(part_factories)
    replica = make_replicas(parts, (0,))[0]
    untrained, learner = new_learner(parts, replica), learner_after_tasks(parts, replica, 2)
    starts_empty = not all(leaf.numel() for leaf in tree_leaves(untrained.method_state))
    change = form_change(untrained, learner, "the learner", not starts_empty)
    expect(
        not change,
        f"{change} after a task: only a tensor that starts with no entries may grow, and only in "
        "`end_task`",
    )
    for step in steps_of_task(parts, replica, learner, 2):
        change = form_change(step.before, step.after, "the learner")
        expect(not change, f"{change} after a step: make room for all at the start")


def check_learner_and_view_unchanged(part_factories: PartFactories) -> None:
    """Raise BrokenRuleError where a step or the end of a task writes into what it is given."""
    parts = make_parts(part_factories)
    replica = make_replicas(parts, (0,))[0]
    learner = new_learner(parts, replica)
    for task in range(parts.benchmark.tasks):
        copy = tree_map(torch.clone, learner)
        view = tree_map(torch.clone, replica.stream.view)
        after = learner_after_task(parts, replica, learner, task)
        change = difference(copy, learner, "the learner", 0.0)
        change = change or difference(view, replica.stream.view, "the view", 0.0)
        expect(
            not change,
            f"{change} although only a new learner may: write x = x - y and not x -= y or x[i] = y",
        )
        learner = after


def global_generators() -> list[object]:
    """The states of the generators that everyone shares: Python's, NumPy's and PyTorch's."""
    numpy_state = np.random.get_state(legacy=False)
    return [random.getstate(), repr(numpy_state), torch.get_rng_state().tolist()]


def check_reproducible(part_factories: PartFactories, eager_learners: Learner) -> None:
    """Raise BrokenRuleError where a run draws from a global generator, or cannot be repeated."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            before = global_generators()
            repeated = train_two_replicas(part_factories)
            after = global_generators()
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
    expect(
        before == after,
        "it draws from a global generator of torch, numpy or random, so that a seed no longer says "
        "what a run is: take random numbers from what the step is given, such as "
        "Gradients.random_numbers",
    )
    change = difference(eager_learners, repeated, "the learner", 0.0)
    expect(
        not change,
        f"{change} in a second run with the same seeds: something outlives a run, such as a "
        "variable of the module; keep it in the state that `init` makes",
    )


def check_no_hidden_state(part_factories: PartFactories, eager_learners: Learner) -> None:
    """Raise BrokenRuleError where a replica depends on those beside it, or on Python objects."""
    advice = "something is remembered outside of the state, in a variable, a list or an attribute"
    for number, seed in enumerate((0, 1)):
        parts = make_parts(part_factories)
        alone = train(parts, make_replicas(parts, (seed,)))
        expected = tree_map(
            lambda tensor, number=number: tensor[number : number + 1], eager_learners
        )
        # states of replicas side by side may be padded to one shape
        change = form_change(expected, alone, "the learner", shapes_too=False)
        if not change and not form_change(expected, alone, "the learner"):
            change = difference(expected, alone, "the learner", ROUNDING)
        expect(not change, f"{change} between a replica alone and beside another: {advice}")
    parts = make_parts(part_factories)
    replica = make_replicas(parts, (0,))[0]
    learner = learner_after_tasks(parts, replica, 2)
    rebuilt = make_parts(part_factories)
    new_replica = make_replicas(rebuilt, (0,))[0]
    change = difference(
        learner_after_task(parts, replica, learner, 2),
        learner_after_task(rebuilt, new_replica, learner, 2),
        "the learner",
        0.0,
    )
    expect(not change, f"{change} between a run and one continued from its learner: {advice}")


def check_engine(
    part_factories: PartFactories, eager_learners: Learner, engine: Engine, step_kind: str
) -> None:
    """Raise BrokenRuleError where an engine's learners are not those of the plain steps."""
    change = difference(
        eager_learners, train_two_replicas(part_factories, engine), "the learner", CLOSE
    )
    expect(not change, f"{change} between plain steps and {step_kind} ones")


def check_vmap(part_factories: PartFactories, eager_learners: Learner) -> None:
    """Raise BrokenRuleError where batched replicas are not those of a loop."""
    batched = make_plain_run(step_replicas_by_vmap)
    engine = Engine("vmap", CPU, functional_gradient, batched, map_in_loop)
    check_engine(part_factories, eager_learners, engine, "batched")


def check_recorded(part_factories: PartFactories, eager_learners: Learner) -> None:
    """Raise BrokenRuleError where recorded steps are not the plain ones."""
    recorded = RecordedRun(eager().run_steps, min_calls_to_record=MIN_STEPS)
    engine = Engine("graph", CPU, autograd_gradient_and_value, recorded, map_in_loop)
    check_engine(part_factories, eager_learners, engine, "recorded")


def check_simulated_capture(part_factories: PartFactories, eager_learners: Learner) -> None:
    """Raise BrokenRuleError where captured steps on the simulated device are not the plain ones."""
    with simulated_device():
        parts = make_parts(part_factories, SIMULATED)
        on_device = train(parts, make_replicas(parts, (0, 1)), simulated_graph(MIN_STEPS))
    learners = tree_map(cpu_values_of, on_device)
    change = difference(eager_learners, learners, "the learner", CLOSE_ON_DEVICE)
    expect(not change, f"{change} between plain steps on the CPU and captured ones on a device")
