"""Small benchmarks and networks shared by the tests."""

import os

import pytest
import torch

from gradalign_cli.contract.small_runs import small_dataset
from gradalign_cli.data import Dataset
from gradalign_cli.reports import run_page

torch.set_num_threads(1)  # steps this small only wait for a second thread


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """Six classes of 4 x 4 images that a linear map can tell apart, 20 + 5 of each."""
    return small_dataset()


@pytest.fixture(autouse=True)
def float64_is_asked_for():
    """No test may change the default type for the next one."""
    yield
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture(autouse=True)
def no_page(request, monkeypatch):
    """Runs of tests draw no page, which takes longer than they do, unless `draws_pages` is asked
    for."""
    if "draws_pages" not in request.fixturenames:
        monkeypatch.setattr(run_page, "write_run_page", lambda folder, title: None)


@pytest.fixture
def draws_pages():
    """Asked for by tests whose runs draw their page."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where the data folder is promised to be full, a test that skips for want of it has failed."""
    outcome = yield
    report = outcome.get_result()
    wanted = "in the data folder" in str(report.longrepr)
    if report.skipped and wanted and os.environ.get("GRADALIGN_REQUIRE_DATA"):
        report.outcome = "failed"
