"""Every shipped yaml is composed, built and run for two steps; folders mirror each other."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

import gradalign_cli.data as data
from gradalign_cli.benchmarks.benchmark import task_classes
from gradalign_cli.benchmarks.split import split
from gradalign_cli.commands.training_run import describe_workload
from gradalign_cli.composition import datasets
from gradalign_cli.composition.folder_names import register_resolvers
from gradalign_cli.composition.hydra_versions import VERSION_BASE
from gradalign_cli.composition.parts import build_run, check_tasks_have_examples
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.replicas import read_replica_settings
from gradalign_cli.composition.schema import check_settings, plain_values
from gradalign_cli.composition.settings import choose_device, read_plan
from gradalign_cli.data import Dataset
from gradalign_cli.engines.choice import choose_engine, choose_threads
from gradalign_cli.errors import UserError
from gradalign_cli.training.runner import run
from tests.methods.catalogue import METHODS
from tests.methods.given import make_setup
from tests.runs import Traces

GROUPS = (
    "augment",
    "benchmark",
    "buffer",
    "experiment",
    "method",
    "model",
    "optimizer",
    "schedule",
    "stream",
)
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
HERE = CONF.parent


@pytest.fixture
def any_dataset(monkeypatch):
    """Random pixels under every dataset's name, small and with the real shapes."""
    shapes = {
        "digits": ((1, 8, 8), 10),
        "cifar10": ((3, 32, 32), 10),
        "cifar100": ((3, 32, 32), 100),
    }

    def load_dataset(name, folder):
        shape, classes = shapes.get(name, ((1, 28, 28), 10))
        x = np.random.default_rng(0).integers(0, 256, (6 * classes, *shape), dtype=np.uint8)
        superclass = np.arange(100) % 20 if classes == 100 else None
        return Dataset(name, x, np.arange(6 * classes) % classes, 4 * classes, classes, superclass)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def compose_config(*overrides):
    """The config of a command line."""
    register_resolvers()
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # which the run's name is read from
    with open_dict(config):
        del config["hydra"]
    return config


def prepared(config):
    """Everything that comes before training."""
    check_settings(plain_values(config))
    device, plan = choose_device(config), read_plan(config)
    parts, replicas, _ = build_run(config, device)
    work = describe_workload(parts, replicas, plan)
    assert choose_threads(config.threads, work) > 0
    engine, _ = choose_engine(config.engine, work, device)
    return parts, replicas, plan, engine


def test_no_file_is_lost():
    """A folder that is not found would make the next test pass on nothing."""
    least_counts = {
        "augment": 6,
        "benchmark": 8,
        "buffer": 10,
        "experiment": 18,
        "method": 54,
        "model": 7,
        "optimizer": 3,
        "schedule": 4,
        "stream": 2,
    }
    counts = {group: len([g for g, _ in FILES if g == group]) for group in GROUPS}
    assert counts.keys() == least_counts.keys()
    assert all(counts[group] >= least for group, least in least_counts.items())
    tables = list((CONF / "table").glob("*.yaml"))  # tests/tables composes their cells
    launchers = list((CONF / "hydra/launcher").glob("*.yaml"))  # test_launchers.py composes it
    assert len(launchers) == 1
    assert len(list(CONF.rglob("*.yaml"))) == len(FILES) + len(tables) + len(launchers) + 1


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_yaml_makes_a_run_of_two_steps_a_task(group, name, any_dataset):
    chosen = f"+experiment={name}" if group == "experiment" else f"{group}={name}"
    large = any(part in name for part in ("net", "cifar", "five"))
    overrides = [chosen, "metrics.lca_batches=0"]
    if group == "stream":
        overrides += ["benchmark.scenario=class", "buffer=reservoir"]
    if name == "module":
        overrides += ["model.module=torchvision.models.mobilenet_v3_small"]
        overrides += ["++model.arguments={num_classes:outputs}", "benchmark=split_cifar10"]
    if group == "model" and large:
        overrides += ["benchmark=split_cifar10"]
    if name == "agem_split_cifar":  # it has options that other networks lack
        overrides += ["model.width=2"]
    elif large and group != "model":
        overrides += ["model=mlp", "model.init=xavier"]  # the networks have their own turn
    config = compose_config(*overrides)
    config.benchmark.samples_per_task = 4 + ("held_out_share" in config.get("schedule", {}))
    config.benchmark.first_tasks = 2
    config.batch_size, config.passes = 2, 1
    config.buffer.capacity, config.buffer.capacity_per = 40, "total"
    parts, replicas, plan, engine = prepared(config)
    watcher = Traces()
    trained = run(parts, replicas, engine, plan, [watcher])
    assert trained.steps == 4
    assert trained.accuracy_matrices.shape[1:] == (1, 3, 2)
    assert len(watcher.traces) == 2


def test_agem_reads_its_whole_memory_on_split_cifar_as_in_its_printed_run():
    """MEGA's published code reads 256 examples there, the default of all other runs."""
    experiment = "+experiment=agem_split_cifar"
    assert compose_config(experiment).memory_batch is None
    assert compose_config(experiment, "memory_batch=64").memory_batch == 64
    assert compose_config(experiment, "method=mega2").memory_batch == 256
    assert compose_config("+experiment=agem_permuted_mnist").memory_batch == 256
    assert compose_config().memory_batch == 256


def test_every_yaml_says_what_it_is():
    for group, name in FILES:
        lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
        comment = lines[1] if group == "experiment" else lines[0]
        assert comment.startswith("# ")
        assert len(comment) < 120
        if group == "experiment":
            assert comment.startswith(f"# gradalign train +experiment={name}: ")


@pytest.mark.parametrize(
    ("group", "code"),
    [
        ("augment", "augmentations"),
        *((g, f"{g}s") for g in ("method", "buffer", "optimizer", "schedule", "stream")),
    ],
)
def test_a_config_its_code_and_its_test_share_a_name(group, code):
    for name in [n for g, n in FILES if g == group]:
        chosen = OmegaConf.load(CONF / group / f"{name}.yaml")
        assert chosen["_target_"] == f"gradalign_cli.{code}.{name}.{name}"
        assert (HERE / "tests" / code / f"test_{name}.py").exists()


def test_an_experiment_carries_the_papers_values_for_each_method_and_an_override_wins():
    config = compose_config("+experiment=gem_mnist_rotations", "method=finetune")
    assert config.replicas.lr == 0.003
    config = compose_config("+experiment=gem_mnist_rotations")
    assert (config.replicas.lr, config.method.margin, config.method.scaled) == (0.1, 0.5, False)
    config = compose_config("+experiment=gem_mnist_rotations", "method=ewc", "replicas.lr=0.7")
    assert (config.replicas.lr, config.method.strength) == (0.7, 2000.0)


def test_an_objective_is_another_methods_loss_with_numbers_of_its_own():
    config = compose_config("method=gem", "method@objective=der", "++replicas.alpha=[0.1,0.9]")
    _, replicas, _, _ = prepared(config)
    states = [replica.method.init(make_setup(torch.zeros(3), 2)) for replica in replicas]
    assert [round(float(state.objective.alpha), 3) for state in states] == [0.1, 0.9]
    assert [float(state.alignment.margin) for state in states] == [0.5, 0.5]


BROUGHT = {"fdr": "uniform", "gdumb": "balanced_reservoir", "icarl": "herding"} | dict.fromkeys(
    [
        "agem_r",
        "c_maml",
        "cls_er",
        "der",
        "derpp",
        "er",
        "er_ace",
        "fs_dgpm",
        "la_maml",
        "mer",
        "mir",
        "star",
        "vr_mcl",
    ],
    "reservoir",
)


def buffer_of(*overrides):
    """The buffer of a command line, by name."""
    return compose_config(*overrides).buffer["_target_"].rpartition(".")[2]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_brings_the_buffer_of_its_paper(name):
    assert buffer_of(f"method={name}") == BROUGHT.get(name, "ring")


@pytest.mark.parametrize("name", ["agem", "er", "fdr", "gdumb", "icarl"])  # each buffer once
def test_a_buffer_that_is_chosen_wins_over_that_of_a_method(name):
    assert buffer_of(f"method={name}", "buffer=loss_aware") == "loss_aware"
    assert buffer_of("buffer=ring", f"method={name}") == "ring"
    assert buffer_of("+experiment=agem_permuted_mnist", f"method={name}") == "ring_per_class"
    assert buffer_of(f"method={name}", "+experiment=agem_permuted_mnist") == "ring_per_class"
    assert buffer_of("+experiment=agem_permuted_mnist", f"method={name}", "buffer=ring") == "ring"
    # an experiment that names no buffer leaves it to the method
    assert buffer_of("+experiment=rotated_mnist", f"method={name}") == BROUGHT.get(name, "ring")


def test_an_objective_brings_its_buffer_where_the_method_has_none():
    assert buffer_of("method=agem", "method@objective=der") == "reservoir"
    assert buffer_of("method=agem", "method@objective=ewc") == "ring"
    assert buffer_of("method=gdumb", "method@objective=der") == "balanced_reservoir"
    assert buffer_of("method=agem", "method@objective=der", "buffer=uniform") == "uniform"
    given = ("+experiment=agem_permuted_mnist", "method@objective=der")
    assert buffer_of(*given) == buffer_of(*reversed(given)) == "ring_per_class"


def test_a_schedule_holds_training_examples_out_and_ends_with_the_papers_step_size(any_dataset):
    config = compose_config("+experiment=gpm_split_cifar100", "method=sgp", "model=mlp")
    assert (config.replicas.lr, config.schedule.least_lr) == (0.05, 5e-5)
    config.benchmark.samples_per_task = 4
    parts, (replica,), _, _ = prepared(config)
    whole = parts.benchmark.make_stream(0)
    for task, rows in enumerate(whole.train_rows):
        held, train = replica.stream.held_out_rows[task], replica.stream.train_rows[task]
        assert torch.equal(torch.cat([held, train]).sort().values, rows.sort().values)
        assert not torch.isin(held, replica.stream.test_rows[task]).any()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "schedule.held_out_share=1.5",
            r"`schedule.held_out_share` must be in \(0, 1\), found 1.5",
        ),
        (
            "schedule.held_out_share=0.99",
            "`schedule.held_out_share` leaves nothing of the 4 examples of task 1",
        ),
        ("schedule.patience=0", "`schedule.patience` must be positive, found 0"),
        ("schedule.factor=1", "`schedule.factor` must be above 1, found 1"),
        ("schedule.least_lr=0", "`schedule.least_lr` must be positive, found 0"),
        ("metrics.continual_every=2", "`metrics.continual_every` must be 0 where a schedule"),
        ("method=joint", "`schedule` needs tasks one after the other, which this `method` or"),
        ("stream=blurry", "`schedule` needs tasks one after the other, which this `method` or"),
    ],
)
def test_what_does_not_go_with_a_schedule_is_named(override, sentence, any_dataset):
    config = compose_config("schedule=plateau", override)
    config.benchmark.samples_per_task = 4
    with pytest.raises(UserError, match=sentence):
        prepared(config)


def test_replicas_are_every_combination_of_the_listed_values():
    config = compose_config("method=gem", "replicas.seed=[3,4]", "++replicas.margin=[0,0.5]")
    settings = read_replica_settings(config)
    assert [(each["seed"], each["margin"]) for each in settings] == [
        (3, 0),
        (3, 0.5),
        (4, 0),
        (4, 0.5),
    ]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("replicas.seed=[]", "`replicas.seed` must be a number or a list of them"),
        ("replicas.seed=[0,1,0]", "`replicas.seed` must be a list without repetitions"),
        ("replicas.lr=[0.1,0.1]", "`replicas.lr` must be a list without repetitions"),
        ("replicas.seed=-1", "`replicas.seed` must be non-negative, found -1"),
        ("replicas.lr=0", "`replicas.lr` must be positive, found 0"),
        ("replicas.lr=1e39", r"`replicas.lr` must be a number of at most 3.4e\+38, found 1e\+39"),
        (
            "replicas.lr=1e-60",
            "`replicas.lr` must be a number that float32 tells from 0 .at least 1.4e-45",
        ),
        ("replicas.lr=fast", "`replicas.lr` must be a number, found 'fast'"),
        ("engine=fast", "`engine` must be one of auto, eager, graph, vmap, streams, found 'fast'"),
        ("device=tpu", "`device` must be one of auto, cpu, cuda"),
        ("metrics.convention=mine", "`metrics.convention` must be one of standard, gem, agem"),
        (
            "threads=0",
            "`threads` must be a whole number of at least 1 and at most 1024 or null, found 0",
        ),
        ("memory_batch=0", "`memory_batch` must be a whole number of at least 1"),
        ("+method.extra=1", "`method.extra` is not a setting of"),
        (
            "buffer.capacity_per=row",
            "`buffer.capacity_per` must be one of total, task, class, found 'row'",
        ),
        ("optimizer.momentum=1", r"`optimizer.momentum` must be in \[0, 1\)"),
    ],
)
def test_wrong_values_are_named_before_anything_runs(override, sentence):
    with pytest.raises(UserError, match=sentence):
        prepared(compose_config(override))


def test_data_is_read_through_one_door():
    assert datasets.load_dataset is data.load_dataset


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("test_rows", "found none to test task 2 on"),
        ("train_rows", "found none to train task 2 on"),
    ],
)
def test_a_task_without_examples_is_named(part, sentence, tiny):
    stream = split(tiny, 2, "task").make_stream(0)
    rows = getattr(stream, part)
    with pytest.raises(UserError, match=sentence):
        check_tasks_have_examples(stream._replace(**{part: (rows[0], rows[1][:0], rows[2])}))
    check_tasks_have_examples(stream)


def test_the_classes_of_each_task_are_those_of_the_drawn_order(tiny):
    benchmark = split(tiny, 2, "task", class_order="drawn")
    for seed in range(5):
        stream = benchmark.make_stream(seed)
        classes = task_classes(benchmark, stream)
        assert sorted(c for task in classes for c in task) == list(range(6))
        for task, rows in zip(classes, stream.train_rows, strict=True):
            assert set(tiny.labels[rows].tolist()) == set(task)
