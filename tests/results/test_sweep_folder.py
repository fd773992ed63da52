"""`sweep.json`: which jobs the folder of a sweep tells of."""

import json

from gradalign_cli.results.sweep_folder import (
    SweepJobs,
    add_sweep_jobs,
    number_of_jobs,
    read_sweep_jobs,
    record_ended_sweep_jobs,
)


def test_jobs_are_added_once_and_keep_their_folders_and_their_total(tmp_path):
    add_sweep_jobs(tmp_path, ["lr=1", "lr=2"], 5)
    record_ended_sweep_jobs(tmp_path, {"lr=1": str(tmp_path / "one")}, set())
    add_sweep_jobs(tmp_path, ["lr=1", "lr=3"])
    assert read_sweep_jobs(tmp_path) == SweepJobs({"lr=1": "one", "lr=2": None, "lr=3": None}, 5)
    assert number_of_jobs(tmp_path) == 5


def test_a_job_whose_folder_another_has_taken_over_is_told_of_no_longer(tmp_path):
    add_sweep_jobs(tmp_path, ["passes=1", "passes=2", "bad"])
    record_ended_sweep_jobs(tmp_path, {"passes=1": str(tmp_path / "job")}, {"bad"})
    record_ended_sweep_jobs(tmp_path, {"passes=3": str(tmp_path / "job")}, set())
    assert read_sweep_jobs(tmp_path).folder_by_overrides == {"passes=2": None, "passes=3": "job"}
    assert number_of_jobs(tmp_path) == 2


def test_the_list_of_version_0_2_0_is_read_as_jobs_without_folders(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": ["lr=1", "lr=2"]}))
    assert read_sweep_jobs(tmp_path) == SweepJobs({"lr=1": None, "lr=2": None}, None)


def test_a_folder_without_the_file_tells_of_no_number_of_jobs(tmp_path):
    assert number_of_jobs(tmp_path) is None
