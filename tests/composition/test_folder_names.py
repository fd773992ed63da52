import os

import pytest

from gradalign_cli.composition.folder_names import LONGEST_NAME, job_folder_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("buffer.capacity=5,method=gem", "buffer.capacity=5,method=gem"),
        ("++buffer.capacity=5,method=gem", "buffer.capacity=5,method=gem"),
    ],
)
def test_a_job_is_named_by_its_overrides(overrides, name):
    assert job_folder_name(overrides) == name


@pytest.mark.parametrize(
    "overrides", ["data_dir=../a/b", "a=" + "x" * 500, "", "..", "a=\x00 b", "é" * 300]
)
def test_any_overrides_give_the_name_of_one_folder(overrides, tmp_path):
    name = job_folder_name(overrides)
    assert len(name) <= LONGEST_NAME
    assert os.path.basename(name) == name
    (tmp_path / name).mkdir()


def test_overrides_that_differ_have_folders_that_differ():
    overrides = ["a=[1,2]", "a=[1;2]", "a=1/2", "a=1:2", "a=" + "x" * 200, "a=" + "x" * 201]
    assert len({job_folder_name(text) for text in overrides}) == len(overrides)
