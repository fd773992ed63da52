import pytest
import torch

from gradalign_cli.benchmarks.benchmark import all_training_rows_and_tasks
from gradalign_cli.benchmarks.permuted import permuted
from gradalign_cli.buffers.buffer import Arrivals, Measurements, keep_memory
from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.cli import main
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.joint import joint
from gradalign_cli.methods.method import needed_task_ids
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import draw_chunks, pass_orders
from gradalign_cli.step.step import make_step
from gradalign_cli.streams.task_free import task_free
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import new_learner
from tests.composition.test_configs import compose_config, prepared
from tests.methods.catalogue import BUFFERS, METHODS, buffer_factory, method
from tests.runs import make_parts, make_replicas, same, train
from tests.step.test_step import follow, mean_gradient

NEEDED_TASK_IDS = {name: needed_task_ids(method(name)) for name in METHODS}
TASK_FREE_METHODS = [name for name, needed in NEEDED_TASK_IDS.items() if needed == "no"]
POOLED_METHODS = [name for name in TASK_FREE_METHODS if method(name).references == "pooled"]


def task_free_parts(dataset, method, width=0.5, kind="split", **arguments):
    """Parts with a method on a stream without boundaries."""
    scenario = {"scenario": "class"} if kind == "split" else {}
    parts = make_parts(dataset, method, kind=kind, buffer=reservoir, **scenario, **arguments)
    return parts._replace(benchmark=task_free(parts.benchmark, width))


def sorted_pairs(rows, tasks):
    """All pairs of a row and its task, sorted."""
    return sorted(zip(rows.tolist(), tasks.tolist(), strict=True))


@pytest.mark.parametrize("width", [1e-3, 0.5, 100.0])
def test_every_example_of_every_task_comes_once_in_equally_long_parts(width, tiny):
    benchmark = permuted(tiny, 7)
    sharp, stream = benchmark.make_stream(3), task_free(benchmark, width).make_stream(3)
    assert sorted_pairs(*all_training_rows_and_tasks(stream)) == sorted_pairs(
        *all_training_rows_and_tasks(sharp)
    )
    assert [len(rows) for rows in stream.train_rows] == [120] * 7


def test_a_narrow_stream_is_one_task_after_the_other(tiny):
    benchmark = permuted(tiny, 4)
    sharp, stream = benchmark.make_stream(0), task_free(benchmark, 1e-3).make_stream(0)
    for task, rows in enumerate(stream.train_rows):
        assert (stream.train_tasks[task] == task).all()
        assert torch.equal(rows.sort().values, sharp.train_rows[task])
        assert not torch.equal(rows, sharp.train_rows[task])


def test_a_wide_stream_mixes_all_tasks_alike(tiny):
    stream = task_free(permuted(tiny, 4), 1e3).make_stream(0)
    for tasks in stream.train_tasks:
        excess = tasks.bincount(minlength=4) - 30.0
        assert (excess.abs() < 4.5 * (120 * 3 / 16) ** 0.5).all()


def test_the_mixture_moves_as_the_normal_densities_around_the_tasks_do(tiny):
    """The time of a place in the stream is where so many examples are expected to have come."""
    seeds, width = 300, 0.5
    benchmark = task_free(permuted(tiny, 3), width)
    tasks = torch.stack(
        [torch.cat(benchmark.make_stream(seed).train_tasks) for seed in range(seeds)]
    )
    times = torch.linspace(-4, 6, 100001, dtype=torch.float64)[:, None]
    arrivals = torch.distributions.Normal(torch.arange(3).double(), width)
    expected_arrived = 120 * arrivals.cdf(times).sum(1)
    density = arrivals.log_prob(times).exp()
    time_of_place = torch.searchsorted(expected_arrived, torch.arange(360) + 0.5)
    expected = (density / density.sum(1, keepdim=True))[time_of_place]
    shares = torch.stack([(tasks == task).double().mean(0) for task in range(3)], 1)
    # a place's time varies by about sqrt(360) / 2 places, which moves a share in the second order
    tolerance = 4.5 * (expected * (1 - expected) / seeds).sqrt() + 0.01
    assert ((shares - expected).abs() < tolerance).all()
    assert (expected[0] - torch.tensor([1.0, 0, 0])).abs().max() < 0.02


def test_a_stream_depends_on_the_seed_alone(tiny):
    benchmark = task_free(permuted(tiny, 3), 0.5)
    first, repeated, other_seed = (
        all_training_rows_and_tasks(benchmark.make_stream(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first[0], repeated[0])
    assert not torch.equal(first[1], other_seed[1])
    stream = benchmark.make_stream(0)
    for seed in (0, 5):
        ((rows, _),) = pass_orders(stream, seed, 1, 1, False)
        assert torch.equal(rows, stream.train_rows[1])


@pytest.mark.parametrize("name", TASK_FREE_METHODS)
def test_a_method_that_needs_no_task_ids_does_the_same_whatever_the_tasks_are_called(
    name, tiny, monkeypatch
):
    def refuse_end(*_):
        raise AssertionError("a task was ended")

    monkeypatch.setattr("gradalign_cli.training.runner.end_task", refuse_end)
    parts = task_free_parts(tiny, method(name), samples=20)
    (replica,) = make_replicas(parts, lrs=(0.01,))
    stream = replica.stream
    renamed = stream._replace(train_tasks=tuple((task + 1) % 3 for task in stream.train_tasks))
    plan = TrainingPlan(1, 5, 1, 2, 3, 10)
    outcome, renamed_outcome = (
        train(parts, [replica._replace(stream=s)], plan=plan) for s in (stream, renamed)
    )
    assert outcome.accuracy.shape == (1, 4, 3)
    assert outcome.steps == 12
    learners, renamed_learners = outcome.learners, renamed_outcome.learners
    assert torch.equal(learners.params, renamed_learners.params)
    assert torch.equal(learners.memory.rows, renamed_learners.memory.rows)


def task_free_steps(parts, replica, learner):
    """Yield (learner before, draw, view, learner after) of all steps of the stream."""
    step = make_step(parts, 3, eager().make_gradient_function, True)
    sizes = draw_sizes(parts, 3)
    for part in range(3):
        orders = [pass_orders(replica.stream, replica.seed, part, 1, False)]
        for draws in draw_chunks(orders, [0], [replica.lr], part, 5, sizes, 0, 1000):
            for s in range(len(draws.rows)):
                draw = tree_index(tree_index(draws, s), 0)
                after, _ = step(learner, draw, replica.stream.view)
                yield learner, draw, replica.stream.view, after
                learner = after


def with_all_logits_visible(stream):
    """The stream with a mask of visible logits, as `mean_gradient` needs one, that hides none."""
    view = stream.view._replace(visible_logit_mask=torch.ones(3, 6, dtype=torch.bool))
    return stream._replace(view=view)


def test_the_pooled_reference_is_the_gradient_on_the_whole_memory(tiny):
    parts = task_free_parts(tiny, follow(None), memory_batch=None)
    (replica,) = make_replicas(parts)
    replica = replica._replace(stream=with_all_logits_visible(replica.stream))
    steps = task_free_steps(parts, replica, new_learner(parts, replica))
    next(steps)  # its memory is empty
    mixed_memories = 0
    for before, _, view, after in steps:
        filled = before.memory.rows >= 0
        rows, tasks = before.memory.rows[filled], before.memory.tasks[filled]
        mixed_memories += int(len(tasks.unique()) > 1)
        expected = mean_gradient(parts, view, before.params, rows, tasks)
        torch.testing.assert_close(after.params, before.params - 0.1 * expected)
    assert mixed_memories > 5


@pytest.mark.parametrize("name", POOLED_METHODS)
def test_while_the_memory_is_empty_a_step_is_that_of_fine_tuning(name, tiny):
    parts = task_free_parts(tiny, method(name))
    (replica,) = make_replicas(parts)
    learner = new_learner(parts, replica)
    plain = parts._replace(method=finetune())
    *_, expected = next(task_free_steps(plain, replica, learner._replace(method_state=())))
    *_, after = next(task_free_steps(parts, replica, learner))
    assert torch.equal(after.params, expected.params)


def test_a_run_is_the_same_under_every_engine_and_chunk(tiny):
    parts = task_free_parts(tiny, method("agem"), kind="permuted", samples=20)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    outcome = train(parts, replicas)
    same(outcome, train(parts, replicas, vmap()))
    same(outcome, train(parts, replicas, plan=TrainingPlan(1, 5, 2, 3, 4, 5)), tolerance=0)
    assert outcome.backward_passes == 2 * outcome.steps


def test_joint_training_is_on_the_same_examples_shuffled(tiny):
    parts = task_free_parts(tiny, joint())
    stream = make_replicas(parts)[0].stream
    orders = [pass_orders(stream, 0, task, 1, shuffles_tasks_together=True)[0] for task in range(3)]
    rows, tasks = (torch.cat(field) for field in zip(*orders, strict=True))
    assert sorted_pairs(rows, tasks) == sorted_pairs(*all_training_rows_and_tasks(stream))
    assert not torch.equal(rows, torch.cat(stream.train_rows))


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_declares_what_it_must_be_told_of_tasks(name):
    """Of each example, where other task ids store other rows; at ends, where it acts then."""
    buffer = buffer_factory(name)(12, "total", 3, 2)
    source = generator(0, "test")
    tasks, class_in_task = (torch.randint(0, n, (60,), generator=source) for n in (3, 2))
    uniform = torch.rand(60, buffer.uniforms_per_arrival, generator=source)
    numbers = torch.rand(60, 1, generator=source)
    of_arrivals = 2 * numbers - 1 if buffer.measures == "cosines" else numbers[:, 0]
    of_stored, slots, valid = numbers[:1].flatten(), torch.zeros(1).long(), torch.ones(1)

    def stored_rows(tasks):
        memory = buffer.init()
        for rows in torch.arange(60).split(6):
            measurements = ()
            if buffer.measures != "nothing":
                measurements = Measurements(of_arrivals[rows], of_stored, slots, valid)
            labels = tasks[rows], class_in_task[rows]
            logits = torch.zeros(6, 0)
            arrivals = Arrivals(rows, *labels, uniform[rows], logits, measurements)
            memory = buffer.insert(memory, arrivals)
        return memory.rows

    of_each = not torch.equal(stored_rows(tasks), stored_rows(torch.zeros_like(tasks)))
    at_ends = "no" if buffer.end_task is keep_memory else "at ends"
    assert buffer.needed_task_ids == ("of each" if of_each else at_ends)


TASK_FREE = ("stream=task_free", "benchmark.scenario=class", "buffer=reservoir")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_refused_just_where_it_must_be_told_of_tasks(name):
    if NEEDED_TASK_IDS[name] == "no":
        prepared(compose_config(*TASK_FREE, f"method={name}"))
        return
    information = {"at ends": "where tasks end", "of each": "the task of each example"}[
        NEEDED_TASK_IDS[name]
    ]
    with pytest.raises(
        UserError, match=f"`method` must be told {information}, and this `stream` does not"
    ):
        prepared(compose_config(*TASK_FREE, f"method={name}"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("buffer=ring",), "`buffer` must be told the task of each example"),
        (("buffer=herding",), "`buffer` must be told where tasks end"),
        (("passes=2",), "`passes` must be 1 for a `stream` without boundaries, found 2"),
        (("benchmark.scenario=task",), "`benchmark.scenario` must be class or domain in this"),
        (("stream.width=0",), "`stream.width` must be positive, found 0"),
        (("method@objective=ewc",), "`method` or `objective` must be told where tasks end"),
    ],
)
def test_other_settings_that_need_boundaries_are_refused(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        prepared(compose_config(*TASK_FREE, "method=agem", *overrides))


def test_two_methods_together_need_what_the_more_demanding_one_needs():
    names = ("agem", "er"), ("gem", "er"), ("gpm", "er"), ("agem", "si"), ("gem", "si")
    needed = [needed_task_ids(combine(method(first), method(second))) for first, second in names]
    assert needed == ["no", "of each", "at ends", "at ends", "of each"]


def test_the_command_runs_what_needs_no_boundaries_and_refuses_what_does_with_code_2(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    small = ("benchmark.samples_per_task=20", "stream.width=0.3", "hydra.run.dir=run")
    assert main(["train", *TASK_FREE, *small]) == 0
    assert len((tmp_path / "run/accuracy.csv").read_text().splitlines()) == 7
    recorded = ("--config-path", str(tmp_path / "run"), "--config-name", "config")
    assert main(["train", *recorded, "hydra.run.dir=repeated"]) == 0
    first, second = ((tmp_path / d / "accuracy.csv").read_text() for d in ("run", "repeated"))
    assert first == second
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["train", *TASK_FREE, "method=gem", "hydra.run.dir=none"])
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "none/accuracy.partial.csv").exists()
