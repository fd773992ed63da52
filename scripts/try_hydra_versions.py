"""Run the tests under Hydra's release and under its release candidate.

    python scripts/try_hydra_versions.py tests/composition tests/commands

Each version is installed into a folder of its own that comes before the environment's packages, so
the environment stays as it is. Without paths the whole suite runs. Ends with code 1 where the tests
fail under the release; what fails under the candidate is told and does not count.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("hydra-core>=1.3,<1.4", "hydra-core>=1.4.0rc3,<1.5")


def passes(version: str, paths: list[str]) -> bool:
    """Whether the tests pass under a version of Hydra."""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "-q", "--pre"]
        subprocess.run([*install, "--target", folder, version], check=True)
        search = os.pathsep.join([folder, str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
        tests = subprocess.run(
            [sys.executable, "-m", "pytest", *paths],
            env=os.environ | {"PYTHONPATH": search},
            check=False,
        )
    return tests.returncode == 0


def main() -> int:
    """Run the tests under both; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="of tests; none: all")
    paths = parser.parse_args().paths
    results = {version: passes(version, paths) for version in VERSIONS}
    for version, passed in results.items():
        print(f"{version}: {'passed' if passed else 'failed'}")
    return int(not results[VERSIONS[0]])


if __name__ == "__main__":
    sys.exit(main())
