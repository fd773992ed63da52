"""How threads wait for each other, which OpenMP reads from the environment."""

import os

from gradalign_cli import cli
from gradalign_cli.cli import let_waiting_threads_sleep


def test_threads_spin_shortly_beside_others_unless_the_user_says_how_they_wait(monkeypatch):
    monkeypatch.setattr(cli, "running_others", iter([0, 2, 1, 2, 0] * 3).__next__)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    let_waiting_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    let_waiting_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    let_waiting_threads_sleep()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_on_a_quiet_machine_threads_wait_as_they_do(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "running_others", iter([0, 3, 0, 0, 1]).__next__)
    let_waiting_threads_sleep()
    assert "GOMP_SPINCOUNT" not in os.environ
