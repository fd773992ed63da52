import subprocess
from pathlib import Path

import pytest

from gradalign_cli.results.machine import git_commit

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="these sources are no checkout")
def test_in_a_checkout_the_commit_is_recorded():
    git = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert git_commit() == (git.stdout.strip() or None)
