"""Folders that are not those of a run are named and left out, whatever they hold."""

import json
import os
import tracemalloc

import numpy as np
import pytest

from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.results.machine import NUMERICS
from gradalign_cli.results.metrics import metrics
from gradalign_cli.results.run_files import LARGEST_FILE
from gradalign_cli.results.run_folder import matrices_csv
from gradalign_cli.tables.results import Result, merged_result, results_by_key, run_key

CONFIG = compose_config(CONF, ()).settings
RECORD = {
    "config": CONFIG, "numerics": NUMERICS, "training_seconds": 1.5, "evaluation_seconds": 0.5,
    "torch": "2", "threads": [1],
}  # fmt: skip
METRICS = {"replicas": [{"seed": 0, "lr": 0.1, "ACC": 0.9, "BWT": -0.1, "FWT": None}]}


ACCURACY = "replica,after_task,task_1\n0,0,0.5\n0,1,0.9\n"


def write_run(folder, record=RECORD, results=METRICS, accuracy=ACCURACY):
    """A finished run; contents that are text are written as they are, None not at all."""
    folder.mkdir(parents=True)
    (folder / "accuracy.csv").write_text(accuracy)
    for name, content in (("record.json", record), ("metrics.json", results)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text)


def replica(**changes):
    """metrics.json with changes of its one replica."""
    return {"replicas": [METRICS["replicas"][0] | changes]}


HOSTILE = {
    "no record": ({"record": None}, r"cannot read .*record\.json: No such file"),
    "empty record": ({"record": ""}, r"record\.json must be valid JSON"),
    "half a record": ({"record": json.dumps(RECORD)[:-9]}, "must be valid JSON"),
    "deep record": ({"record": "[" * 10**6}, "must be valid JSON"),
    "long number": ({"record": "9" * 10**6}, "must be valid JSON"),
    "a list": ({"record": []}, r"record\.json must be a mapping, found list"),
    "huge record": ({"record": " " * (LARGEST_FILE + 1)}, "must have at most 8388608 bytes"),
    "no config": ({"record": RECORD | {"config": 3}}, "must be the config of a run"),
    "no model": ({"record": RECORD | {"config": {}}}, "must be the config of a run"),
    "a model of numbers": (
        {"record": RECORD | {"config": CONFIG | {"model": {"_target_": 3}}}}, "must be the config",
    ),
    "replicas of text": (
        {"record": RECORD | {"config": CONFIG | {"replicas": "x"}}}, "must be the config",
    ),
    "no seconds": ({"record": RECORD | {"training_seconds": None}}, "`training_seconds` must be"),
    "negative seconds": ({"record": RECORD | {"evaluation_seconds": -1}}, "must be from 0 to"),
    "endless seconds": ({"record": RECORD | {"training_seconds": 1e308}}, "must be from 0 to 1e"),
    "another seed": ({"results": replica(seed=4)}, r"of record\.json in metrics\.json, \{0\}"),
    "no metrics": ({"results": None}, r"cannot read .*metrics\.json"),
    "metrics of numbers": ({"results": "3"}, r"metrics\.json must be a mapping, found int"),
    "no replicas": ({"results": {"replicas": []}}, "must be a list of replicas"),
    "replicas in a mapping": ({"results": {"replicas": {"0": {}}}}, "must be a list of replicas"),
    "a replica of text": ({"results": {"replicas": ["x"]}}, "must be a list of mappings"),
    "no seed": ({"results": {"replicas": [{"ACC": 0.5}]}}, "`seed` must be a whole number"),
    "half a seed": ({"results": replica(seed=0.5)}, "`seed` must be a whole number, found 0.5"),
    "accuracy of text": ({"results": replica(ACC="x" * 10**6)}, "`ACC` must be a number, found"),
    "accuracy in percent": ({"results": replica(ACC=90.0)}, "`ACC` must be a fraction, found 90.0"),
    "NaN": ({"results": '{"replicas": [{"seed": 0, "ACC": NaN}]}'}, "`ACC` must be a number"),
    "too large": ({"results": '{"replicas": [{"seed": 0, "lr": 1e999}]}'}, "`lr` must be a number"),
    "no accuracies": ({"accuracy": ""}, r"accuracy\.csv must be a table of numbers"),
    "half the accuracies": ({"accuracy": ACCURACY[:-8]}, r"accuracy\.csv must have T \+ 1 rows"),
    "accuracies in percent": (
        {"accuracy": ACCURACY.replace("0.9", "90")}, r"accuracy\.csv must hold fractions",
    ),
    "no accuracy at all": ({"accuracy": ","}, r"accuracy\.csv must have T \+ 1 rows"),
    "another replica": (
        {"accuracy": ACCURACY.replace("\n0,", "\n9,")}, r"accuracy\.csv must have T \+ 1 rows",
    ),
    "another order": (
        {"accuracy": "replica,after_task,task_1\n0,1,0.9\n0,0,0.5\n"}, "must have T",
    ),
    "another accuracy": (
        {"results": replica(ACC=0.99)}, r"`ACC` of metrics\.json must be that of acc.*0\.9, found",
    ),
    "negative accuracy": ({"results": replica(LA=-0.5)}, "`LA` must be a fraction, found -0.5"),
    "letters that move the cursor": (
        {"results": {"replicas": [{"\x1b[2J\n": "x"}]}}, r"`\?\[2J\?` must be a number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_folder_that_is_none_of_a_run_is_named_once_and_not_counted(kind, tmp_path):
    contents, sentence = HOSTILE[kind]
    write_run(tmp_path / "bad", **contents)
    write_run(tmp_path / "good")
    tracemalloc.start()
    with pytest.warns(UserWarning, match=sentence) as warnings:
        results = results_by_key([tmp_path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (warning,) = warnings
    assert str(warning.message).startswith(f"{tmp_path / 'bad'} is left out: ")
    assert len(str(warning.message)) < 600
    assert "\n" not in str(warning.message)
    ((result,),) = results.values()
    assert (list(results), result.seconds) == ([run_key(CONFIG)], 2.0)
    assert result.seeds == {0: {"seed": 0, "lr": 0.1, "ACC": 0.9, "BWT": -0.1}}
    assert result.machine == {"torch": "2"}
    assert peak < 2**26


def test_a_folder_of_a_table_has_its_runs_below_and_those_set_aside_are_passed_over(tmp_path):
    write_run(tmp_path / "table/runs/one")
    write_run(tmp_path / "table/runs/one_damaged_1", record="{")
    (key,) = results_by_key([tmp_path / "table"])
    assert key == run_key(CONFIG)
    assert results_by_key([tmp_path / "table/runs/one"]).keys() == {key}


def test_runs_are_found_in_the_folder_of_all_tables_too(tmp_path):
    write_run(tmp_path / "tables/one/runs/a")
    write_run(tmp_path / "tables/two/runs/b")
    assert len(results_by_key([tmp_path / "tables"])[run_key(CONFIG)]) == 2


@pytest.mark.parametrize("convention", ["standard", "gem", "agem"])
def test_metrics_of_every_convention_are_compared_with_the_accuracies(convention, tmp_path):
    rng = np.random.default_rng(0)
    matrices = rng.random((2, 4, 3)).round(6)
    text = matrices_csv(matrices, [0, 1])
    values = [
        {"seed": seed, **metrics(matrix, convention=convention)}
        for seed, matrix in enumerate(matrices)
    ]
    config = CONFIG | {
        "replicas": {"seed": [0, 1], "lr": 0.1},
        "metrics": CONFIG["metrics"] | {"convention": convention},
    }
    record = RECORD | {"config": config}
    write_run(tmp_path / "good", record, {"replicas": values}, text)
    ((result,),) = results_by_key([tmp_path]).values()
    assert result.seeds[1] == values[1]
    for name in ("BWT", "FWT", "forgetting", "LA", "AAA"):
        changed = [values[0], values[1] | {name: values[1][name] + 1e-3}]
        write_run(tmp_path / name, record, {"replicas": changed}, text)
        with pytest.warns(UserWarning, match=f"`{name}` of metrics.json must be that of"):
            assert results_by_key([tmp_path / name]) == {}


def test_pipes_and_unfinished_folders_are_passed_over(tmp_path):
    write_run(tmp_path / "good")
    for name in ("unfinished", "pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "unfinished/record.json").write_text("{")
    os.mkfifo(tmp_path / "pipe/accuracy.csv")
    assert [len(results) for results in results_by_key([tmp_path]).values()] == [1]
    (tmp_path / "good/metrics.json").unlink()
    os.mkfifo(tmp_path / "good/metrics.json")
    with pytest.warns(UserWarning, match=r"metrics\.json must be a regular file, found a named"):
        assert results_by_key([tmp_path]) == {}


def test_folders_to_take_runs_from_must_be_there(tmp_path):
    from rich.console import Console

    from gradalign_cli.tables.reproduce import reproduce
    from gradalign_cli.tables.request import Request

    (tmp_path / "file").touch()
    for place in (tmp_path / "nowhere", tmp_path / "file", tmp_path / ("x" * 300)):
        request = Request("*", 1, 0, False, 1, (place,), (), ("false",))
        with pytest.raises(UserError, match="`--from` must be folders of finished runs, found"):
            reproduce(CONF, "gem-2017-figure1", request, tmp_path / "out", Console(quiet=True))
    assert os.listdir(tmp_path) == ["file"]


def test_a_run_of_a_version_without_a_setting_counts_as_one_with_its_value_of_then():
    earlier = {name: value for name, value in CONFIG.items() if name not in ("plugins", "quick")}
    assert run_key(earlier) == run_key(CONFIG)
    assert run_key({**CONFIG, "quick": True}) != run_key(CONFIG)
    assert run_key({**CONFIG, "plugins": ["half"]}) != run_key(CONFIG)


def test_merged_runs_count_the_seconds_of_the_seeds_that_each_adds():
    def result(*seeds):
        return Result({seed: {"ACC": 0.5 + seed / 10} for seed in seeds}, 6.0 * len(seeds), {})

    runs = [result(0), result(0), result(0, 1), result(2)]
    merged = merged_result(runs)
    assert (merged.seconds, list(merged.seeds)) == (6.0 + 0 + 6.0 + 6.0, [0, 1, 2])
    later = Result({0: {"ACC": 0.1, "BWT": 0.2}}, 5.0, {})  # a seed again, for a metric
    merged = merged_result([*runs, later])
    assert (merged.seconds, merged.seeds[0]) == (23.0, {"ACC": 0.5, "BWT": 0.2})
