"""What is refused before Hydra makes a folder, and what the jobs get. No job trains here."""

import logging

import pytest
import yaml

from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.hydra_jobs import job_folder, run_jobs
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
EXPERIMENT = "# @package _global_\n"


def files_below(folder):
    """The paths of all files and folders in a folder."""
    return set(folder.rglob("*"))


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """A folder to run jobs in, and what the jobs were."""

    class Entry:
        folder = tmp_path
        configs, folders = [], []

        def write(self, **texts):
            for name, text in texts.items():
                path = tmp_path / (name.replace("__", "/") + ".yaml")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

        def run(self, *arguments):
            return run_jobs(self.job, arguments)

        def job(self, config):
            self.configs.append(config)
            self.names.append(config.name)
            self.folders.append(job_folder())
            return 0.5

        def refusal(self, *arguments):
            before = files_below(tmp_path)
            with pytest.raises(UserError) as error:
                self.run(*arguments)
            assert "\n" not in str(error.value)
            assert files_below(tmp_path) == before
            assert not self.configs
            return str(error.value)

    handlers = list(logging.root.handlers)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradalign_cli.composition.targets.PLUGINS", [])
    instance = Entry()
    instance.configs, instance.names, instance.folders = [], [], []
    yield instance
    logging.root.handlers[:] = handlers  # Hydra's write to a stream that ends with the test


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("+foo=1", "`foo` is not a setting; `gradalign train --help` lists all"),
        ("lr=0.1", "`lr` is not a setting; did you mean `replicas.lr`?"),
        ("+capacity=5", "`capacity` is not a setting; did you mean `buffer.capacity`?"),
        ("++batchsize=50", "`batchsize` is not a setting; did you mean `batch_size`?"),
        ("+experimnt=x", "`experimnt` is not a setting; did you mean `experiment`?"),
        ("+bufer.capacity=5", "`bufer` is not a setting; did you mean `buffer`?"),
        ("methd=gem", "`methd` is not a setting; did you mean `method`?"),
        ("++metrics.foo=1", "`metrics.foo` is not a setting"),
        ("method=gme", "`method` has no option 'gme'; did you mean `"),
        ("stream.share=0.1", "`stream` must be chosen before its settings can be given"),
        ("objective.strength=1", "as `gradalign list method` shows"),
        ("name=../../x", "`name` must be a folder's name"),
        ("name=${foo}", "Interpolation key 'foo' not found"),
        ("batch_size=${batch_size}", "`batch_size`: Recursive interpolation detected"),
        ("memory_budget=true", "`memory_budget` must be above 0 or null, found True"),
        ("replicas=5", "`replicas` must be settings with values, found 5"),
        ("batch_size=1,2", "`batch_size=1,2` has several values: -m runs each"),
        ("-m batch_size=1,1", "`batch_size` must be swept without repetitions"),
        ("-m method=agem,gme", "`method` has no option 'gme'"),
        ("hydra.foo=1", "`hydra.foo` is not a setting of Hydra"),
        ("hydra.run.dir=", "`hydra.run.dir` must be the path of a folder, found ''"),
        ("hydra.searchpath=[pkg://antigravity]", "must name folders as file://FOLDER"),
        ("--config-name nosuch", "`--config-name` must be a config in the folder"),
        ("--config-dir nowhere", "nowhere must be a folder with configs, found none"),
        ("--nosuch", "unrecognized arguments: --nosuch; `gradalign train --help` shows"),
        ("-m passes=range(1,9,0)", "`passes` cannot be swept so: range() arg 3 must not be zero"),
        ("-sc query=csh", "`--shell-completion` must be followed by install=SHELL"),
        ("--mutlirun", "unrecognized arguments: --mutlirun; did you mean `--multirun`"),
        ("--multirun --cfg job", "--multirun and --cfg cannot be combined"),
        ("--experimental-rerun x", "reads a pickle, which could run any code"),
    ],
)
def test_a_mistake_is_refused_in_one_sentence_before_there_is_a_folder(arguments, sentence, entry):
    assert sentence in entry.refusal(*arguments.split())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "must hold at most 10000 values"),
        ("defaults: [x]", "must not lead back to each other"),
        ("defaults: 5", "defaults must be a list"),
        (EXPERIMENT + "plugins: [antigravity]", "`plugins` must be given on the command line"),
        (
            EXPERIMENT + "hydra: {callbacks: {a: {_target_: os.system, command: ls}}}",
            "`hydra.callbacks.a._target_` must be one of Hydra's own, found 'os.system'",
        ),
        (
            EXPERIMENT + "hydra: {sweeper: {params: {plugins: '[antigravity]'}}}",
            "`hydra.sweeper.params.plugins` must be given on the command line",
        ),
        (EXPERIMENT + "batchsize: 5", "did you mean `batch_size`?"),
        (EXPERIMENT + "batch_size: ${oc.decode:'[1]'}", "must not use the resolver 'oc.decode'"),
    ],
)
def test_a_strangers_config_is_refused_before_anything_of_it_is_called(text, sentence, entry):
    entry.write(strange__experiment__x=text)
    assert sentence in entry.refusal("--config-dir", "strange", "+experiment=x")
    assert sentence in entry.refusal("hydra.searchpath=[file://strange]", "+experiment=x")


def test_a_run_is_called_by_its_benchmark_unless_it_has_a_name(entry):
    entry.run("benchmark=permuted_mnist")
    entry.run("+experiment=gem_mnist_rotations")
    entry.run("name=mine")
    names = ["permuted_mnist", "gem_mnist_rotations", "mine"]
    assert entry.names == names
    assert [folder.parent for folder in entry.folders] == [
        entry.folder / "outputs" / n for n in names
    ]
    assert compose_config(CONF, ["benchmark=permuted_mnist"]).settings["name"] == "permuted_mnist"


def test_a_run_that_writes_nothing_leaves_no_folder_and_the_folders_before_it_stay(entry):
    (entry.folder / "outputs").mkdir()
    entry.run()
    assert files_below(entry.folder) == {entry.folder / "outputs"}


def test_the_jobs_of_a_sweep_are_in_folders_called_by_their_overrides(entry):
    outcomes = entry.run("-m", "method=gem,agem", "buffer.capacity=5,6", "passes=2")
    assert [folder.name for folder in entry.folders] == [
        f"buffer.capacity={capacity},method={method}"
        for method in ("gem", "agem")
        for capacity in (5, 6)
    ]
    assert [outcome.swept_overrides for outcome in outcomes][:2] == [
        "method=gem, buffer.capacity=5",
        "method=gem, buffer.capacity=6",
    ]
    assert {outcome.objective_value for outcome in outcomes} == {0.5}
    assert [config.passes for config in entry.configs] == [2] * 4


def test_absent_parts_are_chosen_with_null_and_a_run_must_have_the_others(entry):
    entry.run("+experiment=gpm_split_cifar100", "schedule=null", "stream=null", "objective=null")
    assert entry.configs.pop().get("schedule") is None
    assert "`model` must be chosen" in entry.refusal("model=null")
    assert "`buffer` must stay" in entry.refusal("~buffer")


def test_folders_of_configs_are_relative_to_the_working_folder(entry):
    entry.write(mine__buffer__small="_target_: gradalign_cli.buffers.ring.ring\ncapacity: 2")
    entry.run("--config-dir", "mine", "buffer=small")
    assert entry.configs.pop().buffer.capacity == 2
    chosen = compose_config(CONF, ["name=again"]).settings
    entry.write(run__config=yaml.safe_dump(chosen))
    entry.run("--config-path", "run", "--config-name", "config", "batch_size=7")
    assert (entry.names[-1], entry.configs.pop().batch_size) == ("again", 7)
    refused = entry.refusal("--config-path", "run", "--config-name", "config", "method=er")
    assert "`method` cannot be chosen anew in a config without groups" in refused
    assert "with method=er" in refused


def test_a_sweep_of_more_jobs_than_anyone_waits_for_is_refused_before_they_are_counted(entry):
    assert "`-m` must be followed by at most 10000 jobs" in entry.refusal(
        "-m", "replicas.seed=range(0,1000000000)"
    )
    assert "at most 10000 jobs" in entry.refusal(
        "-m", "replicas.seed=range(0,200)", "batch_size=range(1,200)"
    )


def test_a_run_writes_the_files_of_hydra_itself_so_no_other_folder_takes_them(entry):
    assert "`hydra.output_subdir` must be null" in entry.refusal("hydra.output_subdir=../other")
