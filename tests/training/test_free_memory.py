"""How much memory is free, from what the system says of it."""

import resource

import pytest
import torch

from gradalign_cli.training import free_memory
from gradalign_cli.training.free_memory import (
    address_space_free_bytes,
    control_group_free_bytes,
    free_bytes,
    machine_free_bytes,
)


def test_pages_that_hold_files_count_as_free(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 2 kB\nMemAvailable:   5 kB\n")
    assert machine_free_bytes(tmp_path / "meminfo") == 5 * 1024
    assert machine_free_bytes(tmp_path / "nothing") > 0  # the system's unused pages


def limit(folder, maximum, used, file_pages=0):
    folder.mkdir(exist_ok=True)
    (folder / "memory.max").write_text(f"{maximum}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 3\ninactive_file {file_pages}\n")


def test_the_tightest_limit_of_the_control_groups_around_a_process_counts(tmp_path):
    limit(tmp_path / "outer", 100, 70, 5)
    limit(tmp_path / "outer" / "inner", "max", 20)
    assert control_group_free_bytes(tmp_path, "/outer/inner") == 100 - 70 + 5
    limit(tmp_path / "outer" / "inner", 30, 20)
    assert control_group_free_bytes(tmp_path, "/outer/inner") == 10
    assert control_group_free_bytes(tmp_path, "/elsewhere") == float("inf")


def test_a_limit_of_the_address_space_counts_less_what_is_taken(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**15, 10**15))
    assert 0 < 10**15 - address_space_free_bytes() < 10**13
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert address_space_free_bytes() == float("inf")


@pytest.mark.parametrize("tightest", ["machine", "control_group", "address_space"])
def test_the_least_of_all_limits_is_free_and_never_less_than_nothing(tightest, monkeypatch):
    for name in ("machine", "control_group", "address_space"):
        value = 7 if name == tightest else 100
        monkeypatch.setattr(free_memory, f"{name}_free_bytes", lambda value=value: value)
    assert free_bytes(torch.device("cpu")) == 7
    monkeypatch.setattr(free_memory, f"{tightest}_free_bytes", lambda: -3)
    assert free_bytes(torch.device("cpu")) == 0
