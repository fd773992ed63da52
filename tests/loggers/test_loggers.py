"""Every logger stores the numbers of the run's own files, as its own package reads them back."""

import csv
import json
import math
import struct
from itertools import groupby

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.loggers import choice

SMALL = (
    "benchmark.first_tasks=2", "benchmark.samples_per_task=20", "model.widths=[4]",
    "replicas.seed=[0,1]", "method=agem", "alignment.every=1", "report=false",
)  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of two replicas, logged by all loggers whose packages are installed."""
    folder = tmp_path_factory.mktemp("logged")
    there = [name for name in choice.CLASSES if choice.find_spec(name)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("WANDB_MODE", raising=False)
        logger = f"logger=[csv,{','.join(there)}]" if there else "logger=csv"
        config = OmegaConf.create(compose_config(CONF, [*SMALL, logger]).settings)
        train(config, folder / "run", Console(quiet=True))
    return folder / "run"


@pytest.fixture(scope="module")
def expected(run):
    """Of replica 1 the numbers of the run's own files: of each name the step and the value."""
    with open(run / "alignment.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["replica"] == "1"]
    steps = {}
    first_steps = 0
    for _, of_task in groupby(rows, lambda row: row["task"]):
        last = 0
        for row in of_task:
            last = first_steps + int(row["step"])
            for name in ("loss", "ref_loss", "cosine", "violated", "norm_ratio"):
                if row[name]:
                    steps.setdefault(name, {})[last] = float(row[name])
        first_steps = last
    with open(run / "accuracy.csv") as file:
        tests = [row for row in csv.DictReader(file) if row["replica"] == "1"]
    for number, row in enumerate(tests):
        for task in ("task_1", "task_2"):
            values = steps.setdefault(f"accuracy/{task}", {})
            values[number * first_steps // 2] = float(row[task])
    replica = json.loads((run / "metrics.json").read_text())["replicas"][1]
    return steps | {
        f"metrics/{name}": {first_steps: value}
        for name, value in replica.items()
        if name not in ("seed", "lr")
    }


def check(stored, expected):
    """Assert that the stored numbers are the expected ones, up to the digits of csv and float32."""
    assert stored.keys() >= expected.keys()
    for name, values in expected.items():
        assert stored[name].keys() == values.keys(), name
        for step, value in values.items():
            assert math.isclose(stored[name][step], value, rel_tol=1e-4, abs_tol=1e-6), name


def test_tensorboard_stores_the_numbers_of_the_run(run, expected):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard/replica_1"))
    events.Reload()
    tags = events.Tags()
    check(
        {name: {e.step: e.value for e in events.Scalars(name)} for name in tags["scalars"]},
        expected,
    )
    assert tags["images"] == ["accuracy_matrix"]
    (text,) = events.Tensors("parameters/text_summary")
    assert b"method: agem" in text.tensor_proto.string_val[0]


def test_mlflow_stores_the_numbers_of_the_run(run, expected):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.parent}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("split_digits")
    runs = client.search_runs([experiment.experiment_id])
    (second,) = [r for r in runs if r.data.params["seed"] == "1"]
    stored = {
        name: {m.step: m.value for m in client.get_metric_history(second.info.run_id, name)}
        for name in second.data.metrics
    }
    check(stored, expected)
    assert len(runs) == 2
    assert second.data.params["method"] == "agem"
    assert second.data.params["folder"] == str(run)
    assert second.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(second.info.run_id)] == [
        "accuracy_matrix.png"
    ]


def wandb_records(path):
    """The records of an offline run: a log in LevelDB's format, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_wandb_stores_the_numbers_of_the_run_without_a_network(run, expected):
    pytest.importorskip("wandb")
    replicas = {}
    for path in run.glob("wandb/offline-run-*/*.wandb"):
        stored, parameters = {}, {}
        for record in wandb_records(path):
            for item in record.run.config.update:
                parameters[item.key] = json.loads(item.value_json)
            for item in record.history.item:
                name = "/".join(item.nested_key) or item.key
                value = json.loads(item.value_json)
                stored.setdefault(name, {})[record.history.step.num] = value
        replicas[parameters["seed"]] = stored
    assert replicas.keys() == {0, 1}
    assert list(replicas[1]["accuracy_matrix/_type"].values()) == ["image-file"]
    check(replicas[1], expected)


def test_an_unknown_logger_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"`logger` must be of csv, tensorboard, mlflow, wandb, found"
    ):
        compose_config(CONF, ["logger=tensorbord"])
    with pytest.raises(UserError, match=r"`logger` must be "):
        compose_config(CONF, ["logger=3"])
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"must have its package: pip install 'gradalign\[mlflow\]'"
    ):
        compose_config(CONF, ["logger=[csv,mlflow]"])
    assert choice.logger_names(["csv"]) == choice.logger_names("csv") == []


class FailingLogger:
    """A logger that fails where it is told to: at its beginning, or after so many numbers."""

    def __init__(self, numbers):
        self.numbers = numbers

    def begin(self, replica, settings):
        if self.numbers < 0:
            raise OSError("no such store")

    def scalars(self, replica, step, values):
        self.numbers -= 1
        if self.numbers < 0:
            raise ValueError("the store is full")

    def image(self, replica, name, pixels):
        raise ValueError("no pictures")

    def close(self):
        pass


@pytest.mark.parametrize("numbers", [0, 5, 10**6])
def test_a_run_is_not_lost_with_a_logger_that_fails(tmp_path, monkeypatch, numbers):
    failing = FailingLogger(numbers)
    monkeypatch.setattr("gradalign_cli.commands.training_run.make_loggers", lambda *_: [failing])
    config = OmegaConf.create(compose_config(CONF, SMALL).settings)
    with pytest.warns(UserWarning, match="FailingLogger fails: .*it is left out from here on"):
        train(config, tmp_path / "run", Console(quiet=True))
    assert (tmp_path / "run/accuracy.csv").exists()


def test_a_logger_that_cannot_begin_stops_the_run_in_a_sentence(tmp_path, monkeypatch):
    name = "gradalign_cli.commands.training_run.make_loggers"
    monkeypatch.setattr(name, lambda *_: [FailingLogger(-1)])
    config = OmegaConf.create(compose_config(CONF, SMALL).settings)
    with pytest.raises(UserError, match=r"FailingLogger fails: no such store; .*unfinished run"):
        train(config, tmp_path / "run", Console(quiet=True))
