"""Mutation testing: how many small changes to the code do its tests notice?

    python scripts/mutate.py                               60 changes in each room
    python scripts/mutate.py gradalign_cli/training --exclude runner.py --seed 1 --sample 20

Changes one place at a time (mutants.py says how) in a temporary copy of the project, and runs the
tests of that file there up to the first that fails: its mirror, those of the files of its room that
build on it, and the room's SUITES. Which changes are tried follows from the seed and the code. A
change that no test notices is printed. It takes some five seconds to see that one is noticed, and
up to a minute that one is not.
"""

import argparse
import os
import random
import re
import shutil
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

from mutants import Mutant, mutants_of
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("methods", "buffers", "training")
FILES = ("results/metrics.py", "results/run_metrics.py", "tables/verdict.py")
SUITES = {
    "methods": [f"methods/test_{suite}.py" for suite in ("contract", "properties", "families")],
    "buffers": ["buffers/test_buffer.py", "buffers/test_per_class.py"],
    "training": ["training", "schedules"],
}
PYTEST = 100  # added to pytest's exit code, to tell it from Python's


def dependants(file: Path) -> list[str]:
    """The name of a file, and of those of its room that import it, directly or not."""
    sources = {path.stem: path.read_text() for path in sorted((ROOT / file).parent.glob("*.py"))}
    names = [file.stem]
    for name in names:
        imports = re.compile(rf"import.*\b{name}\b|\.{name} import")
        names += [stem for stem in sources if stem not in names and imports.search(sources[stem])]
    return names


def test_files(file: Path) -> list[str]:
    """The tests of a file, the closest first."""
    tests = ROOT / "tests"
    mirrors = [f"{file.parent.name}/test_{name}.py" for name in dependants(file)]
    paths = [tests / name for name in (*mirrors, *SUITES.get(file.parent.name, ()))]
    return [str(path.relative_to(ROOT)) for path in paths if path.exists()]


class ConcernedParts:
    """A plugin of pytest: of the suites of a room, only the tests of the parts concerned."""

    def __init__(self, file: Path) -> None:
        self.parts = {path.stem for path in (ROOT / file).parent.glob("*.py")}
        self.concerned = set(dependants(file))

    def is_concerned(self, test: Any) -> bool:
        """Whether a test is of such a part, or of no part in particular."""
        parts = set(re.split(r"[\[\]-]", test.name)[1:]) & self.parts
        mirror = test.path.stem.removeprefix("test_") in self.concerned
        return mirror or not parts or bool(parts & self.concerned)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out the others."""
        items[:] = filter(self.is_concerned, items)


def run_pytest(project: Path, files: list[str], plugins: list[ConcernedParts]) -> None:
    """Run the tests of a copy of the project in a process of its own, which ends then."""
    import pytest

    os.setsid()
    os.chdir(project)
    sys.path.insert(0, str(project))
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONPATH=str(project), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    log = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = pytest.main(["-x", "-n", "0", "-p", "no:cacheprovider", *files], plugins)
    sys.stdout.flush()
    os._exit(PYTEST + code)


def verdict(project: Path, files: list[str], plugins: list[ConcernedParts], limit: float) -> str:
    """What the tests say of the code as it is in a copy of the project."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision", "omegaconf", "scipy.stats", "pytest"])
    process = context.Process(target=run_pytest, args=(project, files, plugins))
    process.start()
    process.join(limit)
    if process.is_alive() and process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
        return "timeout"
    code = process.exitcode or 0
    if code in (PYTEST, PYTEST + 5):  # all pass, or there are none
        return "survived"
    if code in (PYTEST + 1, PYTEST + 2) or code < 0:  # one fails, or an import; or a crash
        return "killed"
    sys.exit("pytest did not start: " + (project / "tests.log").read_text()[-2000:])


def try_mutants(mutants: list[Mutant], limit: float, at_once: int) -> Counter[str]:
    """Try each mutant, so many beside each other; print those that no test notices."""
    verdicts: Counter[str] = Counter()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        projects: Queue[Path] = Queue()
        ignored = shutil.ignore_patterns(".*", "outputs", "__pycache__")
        for n in range(at_once):
            projects.put(shutil.copytree(ROOT, Path(folder) / f"{n}" / "project", ignore=ignored))

        def try_mutant(mutant: Mutant) -> str:
            project, file = projects.get(), mutant.file
            (project / file).write_text(mutant.source)
            answer = verdict(project, test_files(file), [ConcernedParts(file)], limit)
            shutil.copy(ROOT / file, project / file)
            projects.put(project)
            return answer

        files = dict.fromkeys(name for mutant in mutants for name in test_files(mutant.file))
        if verdict(projects.queue[0], list(files), [], 3600) != "survived":
            sys.exit(f"a test of {', '.join(files)} fails without a change")
        for mutant, answer in zip(mutants, pool.map(try_mutant, mutants), strict=True):
            verdicts[answer] += 1
            if answer != "killed":
                change = f"  - {mutant.before}\n  + {mutant.after}"
                print(f"{answer} {mutant.file}:{mutant.line}\n{change}", flush=True)
    return verdicts


def main() -> None:
    """Print the survivors, and of each room the share that is noticed with its 95% interval."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [f"gradalign_cli/{path}" for path in (*ROOMS, *FILES)]
    parser.add_argument("paths", nargs="*", default=default, help="folders and files")
    parser.add_argument("--exclude", nargs="*", default=[], help="names of files to leave out")
    parser.add_argument("--sample", type=int, default=60, help="changes in each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=120, help="seconds for a change")
    parser.add_argument("--at-once", type=int, default=1, help="changes beside each other")
    options = parser.parse_args()
    rooms: dict[str, list[Mutant]] = {}
    for path in options.paths:
        for file in sorted((ROOT / path).glob("*.py")) or [ROOT / path]:
            if file.name not in options.exclude:
                changes = mutants_of(ROOT, file.relative_to(ROOT))
                rooms.setdefault(file.parent.name, []).extend(changes)
    for room, mutants in rooms.items():
        tried = min(len(mutants), options.sample)
        chosen = sorted(random.Random(f"{room} {options.seed}").sample(range(len(mutants)), tried))
        verdicts = try_mutants([mutants[n] for n in chosen], options.limit, options.at_once)
        noticed = tried - verdicts["survived"]
        low, high = binomtest(noticed, tried).proportion_ci(method="wilson")
        share = f"{noticed / tried:.0%} ({low:.0%} to {high:.0%})"
        late = f"{verdicts['timeout']} by the time limit"
        print(f"{room}: {share}, {noticed} of {tried}, {late}; {len(mutants)} in all", flush=True)


if __name__ == "__main__":
    main()
