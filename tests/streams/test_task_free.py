import pytest
import torch

from gradalign_cli.benchmarks.benchmark import whole_stream
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.buffers.buffer import Arrivals, Measurements, keep_memory
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.joint import joint
from gradalign_cli.methods.method import task_ids
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import draw_chunks, pass_orders
from gradalign_cli.step.step import make_step
from gradalign_cli.streams.task_free import task_free
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import new_learner
from tests.commands.test_train import gradalign
from tests.composition.test_configs import composed, prepared
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, same, train
from tests.step.test_step import follow, mean_gradient

NEEDS = {name: task_ids(method(name)) for name in METHODS}
UNTOLD = [name for name, needed in NEEDS.items() if needed == "no"]
POOLED = [name for name in UNTOLD if method(name).references == "pooled"]


def free(dataset, made, width=0.5, kind="split", **changed):
    """Parts with a method on a stream without boundaries."""
    scenario = {"scenario": "class"} if kind == "split" else {}
    parts = make_parts(dataset, made, kind=kind, buffer=reservoir, **scenario, **changed)
    return parts._replace(benchmark=task_free(parts.benchmark, width))


def pairs(rows, owner):
    return sorted(zip(rows.tolist(), owner.tolist(), strict=True))


@pytest.mark.parametrize("width", [1e-3, 0.5, 100.0])
def test_every_example_of_every_task_comes_once_in_equally_long_parts(width, tiny):
    plain = permuted(tiny, 7)
    sharp, found = plain.make_stream(3), task_free(plain, width).make_stream(3)
    assert pairs(*whole_stream(found)) == pairs(*whole_stream(sharp))
    assert [len(rows) for rows in found.train_rows] == [120] * 7


def test_a_narrow_stream_is_one_task_after_the_other(tiny):
    plain = permuted(tiny, 4)
    found = task_free(plain, 1e-3).make_stream(0)
    for task, rows in enumerate(found.train_rows):
        assert (found.train_tasks[task] == task).all()
        assert torch.equal(rows.sort().values, plain.make_stream(0).train_rows[task])
        assert not torch.equal(rows, plain.make_stream(0).train_rows[task])


def test_a_wide_stream_mixes_all_tasks_alike(tiny):
    stream = task_free(permuted(tiny, 4), 1e3).make_stream(0)
    for owner in stream.train_tasks:
        counts = owner.bincount(minlength=4) - 30.0
        assert (counts.abs() < 4.5 * (120 * 3 / 16) ** 0.5).all()


def test_the_mixture_moves_as_the_normal_densities_around_the_tasks_do(tiny):
    """The time of a place in the stream is where so many examples are expected to have come."""
    seeds, width = 300, 0.5
    benchmark = task_free(permuted(tiny, 3), width)
    owners = torch.stack(
        [torch.cat(benchmark.make_stream(seed).train_tasks) for seed in range(seeds)]
    )
    time = torch.linspace(-4, 6, 100001, dtype=torch.float64)[:, None]
    around = torch.distributions.Normal(torch.arange(3).double(), width)
    come = 120 * around.cdf(time).sum(1)
    density = around.log_prob(time).exp()
    expected = (density / density.sum(1, keepdim=True))[
        torch.searchsorted(come, torch.arange(360) + 0.5)
    ]
    found = torch.stack([(owners == task).double().mean(0) for task in range(3)], 1)
    # a place's time varies by about sqrt(360) / 2 places, which moves a share in the second order
    assert (
        (found - expected).abs() < 4.5 * (expected * (1 - expected) / seeds).sqrt() + 0.01
    ).all()
    assert (expected[0] - torch.tensor([1.0, 0, 0])).abs().max() < 0.02


def test_a_stream_depends_on_the_seed_alone(tiny):
    benchmark = task_free(permuted(tiny, 3), 0.5)
    one, again, other = (whole_stream(benchmark.make_stream(seed)) for seed in (0, 0, 1))
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[1], other[1])
    stream = benchmark.make_stream(0)
    assert all(
        torch.equal(pass_orders(stream, s, 1, 1, False)[0][0], stream.train_rows[1]) for s in (0, 5)
    )


@pytest.mark.parametrize("name", UNTOLD)
def test_a_method_that_needs_no_task_ids_does_the_same_whatever_the_tasks_are_called(
    name, tiny, monkeypatch
):
    def ended(*_):
        raise AssertionError("told of an end")

    monkeypatch.setattr("gradalign_cli.training.runner.end_task", ended)
    parts = free(tiny, method(name), samples=20)
    (replica,) = make_replicas(parts, lrs=(0.01,))
    stream = replica.stream
    renamed = stream._replace(owner=tuple((owner + 1) % 3 for owner in stream.train_tasks))
    plan = Plan(1, 5, 1, 2, 3, 10)
    told, untold = (
        train(parts, [replica._replace(stream=s)], plan=plan) for s in (stream, renamed)
    )
    assert told.accuracy.shape == (1, 4, 3)
    assert told.steps == 12
    assert torch.equal(told.learners.params, untold.learners.params)
    assert torch.equal(told.learners.memory.rows, untold.learners.memory.rows)


def free_steps(parts, replica, learner):
    """Yield (learner before, draw, view, learner after) of the whole stream."""
    step = make_step(parts, 3, eager().gradient, True)
    for task in range(3):
        orders = [pass_orders(replica.stream, replica.seed, task, 1, False)]
        for draws in draw_chunks(orders, [0], [replica.lr], task, 5, draw_sizes(parts, 3), 0, 1000):
            for s in range(len(draws.rows)):
                draw = tree_index(tree_index(draws, s), 0)
                after, _ = step(learner, draw, replica.stream.view)
                yield learner, draw, replica.stream.view, after
                learner = after


def test_the_pooled_reference_is_the_gradient_on_the_whole_memory(tiny):
    parts = free(tiny, follow(None), memory_batch=None)
    (replica,) = make_replicas(parts)
    replica = replica._replace(stream=replica.stream._replace(view=all_visible(replica)))
    steps = free_steps(parts, replica, new_learner(parts, replica))
    next(steps)  # nothing is held yet
    several = 0
    for before, _, view, after in steps:
        held = before.memory.rows >= 0
        rows, tasks = before.memory.rows[held], before.memory.tasks[held]
        several += int(len(tasks.unique()) > 1)
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert several > 5


def all_visible(replica):
    """The same view, as the independent gradient of tests/step/test_step.py wants it."""
    return replica.stream.view._replace(visible=torch.ones(3, 6, dtype=torch.bool))


@pytest.mark.parametrize("name", POOLED)
def test_while_nothing_is_held_a_step_is_that_of_fine_tuning(name, tiny):
    parts = free(tiny, method(name))
    (replica,) = make_replicas(parts)
    learner = new_learner(parts, replica)
    plain = parts._replace(method=finetune())
    expected = next(free_steps(plain, replica, learner._replace(method_state=())))[3]
    assert torch.equal(next(free_steps(parts, replica, learner))[3].params, expected.params)


def test_a_run_is_the_same_under_every_engine_and_chunk(tiny):
    parts = free(tiny, method("agem"), kind="permuted", samples=20)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    found = train(parts, replicas)
    same(found, train(parts, replicas, vmap()))
    same(found, train(parts, replicas, plan=Plan(1, 5, 2, 3, 4, 5)), tolerance=0)
    assert found.backward_passes == 2 * found.steps


def test_joint_training_is_on_the_same_examples_shuffled(tiny):
    parts = free(tiny, joint())
    stream = make_replicas(parts)[0].stream
    dealt = [pair for task in range(3) for pair in pass_orders(stream, 0, task, 1, mixed=True)]
    rows, owner = (torch.cat([pair[k] for pair in dealt]) for k in range(2))
    assert pairs(rows, owner) == pairs(*whole_stream(stream))
    assert not torch.equal(rows, torch.cat(stream.train_rows))


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_says_what_it_must_be_told_of_tasks(name):
    """Of each example, if calling tasks otherwise keeps other rows; at ends, if it acts there."""
    buffer = buffer_factory(name)(12, "total", 3, 2)
    source = generator(0, "test")
    task, position = (torch.randint(0, n, (60,), generator=source) for n in (3, 2))
    uniform, known = (torch.rand(60, n, generator=source) for n in (buffer.uniforms_per_arrival, 1))
    known = {"nothing": known, "losses": known[:, 0], "cosines": 2 * known - 1}[buffer.measures]

    def kept(task):
        memory = buffer.init()
        for at in range(0, 60, 6):
            part = slice(at, at + 6)
            arrivals = (torch.arange(60)[part], task[part], position[part], uniform[part])
            seen = Measurements(
                known[part], known[:1].flatten(), torch.zeros(1).long(), torch.ones(1)
            )
            told = (seen,) if buffer.measures != "nothing" else ()
            memory = buffer.insert(memory, Arrivals(*arrivals, torch.zeros(6, 0), *told))
        return memory.rows

    of_each = not torch.equal(kept(task), kept(torch.zeros_like(task)))
    at_ends = "no" if buffer.end_task is keep_memory else "at ends"
    assert buffer.task_ids == ("of each" if of_each else at_ends)


FREE = ("stream=task_free", "benchmark.scenario=class", "buffer=reservoir")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_refused_just_where_it_must_be_told_of_tasks(name):
    if NEEDS[name] == "no":
        prepared(composed(*FREE, f"method={name}"))
        return
    what = {"at ends": "where tasks end", "of each": "the task of each example"}[NEEDS[name]]
    with pytest.raises(
        UserError, match=f"`method` must be told {what}, and this `stream` does not"
    ):
        prepared(composed(*FREE, f"method={name}"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("buffer=ring",), "`buffer` must be told the task of each example"),
        (("buffer=herding",), "`buffer` must be told where tasks end"),
        (("passes=2",), "`pass_orders` must be 1 for a `stream` without boundaries, found 2"),
        (("benchmark.scenario=task",), "`benchmark.scenario` must be class or domain in this"),
        (("stream.width=0",), "`stream.width` must be positive, found 0"),
        (("method@objective=ewc",), "`method` or `objective` must be told where tasks end"),
    ],
)
def test_what_else_would_need_boundaries_is_refused(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        prepared(composed(*FREE, "method=agem", *overrides))


def test_two_methods_together_need_what_the_more_demanding_one_needs():
    names = ("agem", "er"), ("gem", "er"), ("gpm", "er"), ("agem", "si"), ("gem", "si")
    found = [task_ids(combine(method(first), method(second))) for first, second in names]
    assert found == ["no", "of each", "at ends", "at ends", "of each"]


def test_the_command_runs_what_needs_no_boundaries_and_refuses_the_rest_with_code_2(tmp_path):
    stream = ("stream=task_free", "benchmark.scenario=class", "buffer=reservoir")
    ran = gradalign("train", *stream, "stream.width=0.3", "hydra.run.dir=run", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert len((tmp_path / "run/accuracy.csv").read_text().splitlines()) == 7
    again = ("--config-path", str(tmp_path / "run"), "--config-name", "config")
    ran = gradalign("train", *again, "hydra.run.dir=again", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    first, second = ((tmp_path / d / "accuracy.csv").read_text() for d in ("run", "again"))
    assert first == second
    ran = gradalign("train", *stream, "method=gem", "hydra.run.dir=none", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "none/accuracy.partial.csv").exists()
