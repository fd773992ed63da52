"""Whether a refactoring left every result as it was, bit for bit.

    python scripts/check_refactoring.py write FILE      before the change
    python scripts/check_refactoring.py compare FILE    after it

Trains small configurations that between them use every method, buffer, benchmark, stream, schedule
and engine, and the settings of five papers' experiments. `write` keeps a hash of each file of
results; `compare` names the configurations whose hashes are others now and ends with exit code 1.
Times are left out. MNIST and CIFAR-100 must be in the data folder. Takes about two minutes.
"""

import argparse
import contextlib
import hashlib
import io
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from gradalign_cli.cli import main as gradalign

CONF = Path(__file__).resolve().parents[1] / "conf"
RESULTS = (
    "accuracy.csv",
    "accuracy_task.csv",
    "forgetting.csv",
    "alignment.csv",
    "continual.csv",
    "metrics.json",
)
RECORDED = (  # entries of record.json that no clock and no machine decides
    "replicas",
    "engine",
    "engine_reason",
    "fingerprint",
    "steps",
    "backward_passes",
    "measured_steps",
    "broken_constraints",
    "unsolved",
)
SMALL = ("benchmark.first_tasks=3", "benchmark.samples_per_task=60", "alignment.every=1")
DIGITS = (*SMALL, "model.widths=[20]", "memory_batch=20", "metrics.lca_batches=3", "threads=1")


def names(group: str) -> list[str]:
    """The choices of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def configurations() -> dict[str, tuple[str, ...]]:
    """The overrides of each configuration, by its name."""
    several = ("replicas.seed=[0,1]", "replicas.lr=[0.03,0.1]")
    runs: dict[str, tuple[str, ...]] = {
        f"method {name}": (*DIGITS, f"method={name}") for name in names("method")
    }
    for name in names("buffer"):
        capacity = 4 if name in ("ring", "ring_per_class") else 40
        buffer = (f"buffer={name}", f"buffer.capacity={capacity}")
        runs[f"buffer {name}"] = (*DIGITS, "method=er", *buffer)
        runs[f"buffer {name}, agem"] = (*DIGITS, "method=agem", *buffer, "memory_batch=5", *several)
    for engine in ("eager", "graph", "vmap", "streams"):
        for method in ("agem", "gem", "derpp", "gpm", "mir"):
            long = ("benchmark.samples_per_task=240", "batch_size=2", "alignment.every=7")
            runs[f"engine {engine}, {method}"] = (
                *(*DIGITS, *long, *several, f"engine={engine}", f"method={method}"),
            )
    for scenario in ("class", "domain"):
        for method in ("agem", "ewc", "lwf", "er_ace", "si"):
            runs[f"{scenario}, {method}"] = (
                *(*DIGITS, f"benchmark.scenario={scenario}", f"method={method}"),
            )
    for method in ("agem", "er", "derpp"):
        runs[f"stream blurry, {method}"] = (
            *(*DIGITS, "stream=blurry", f"method={method}", "buffer=reservoir"),
        )
        runs[f"stream task_free, {method}"] = (
            *(*DIGITS, "stream=task_free", "benchmark.scenario=class"),
            *(f"method={method}", "buffer=reservoir"),
        )
    plateau = ("schedule=plateau", "schedule.patience=1", "schedule.least=0.05", "passes=4")
    runs |= {
        "schedule": (*DIGITS, *plateau, "replicas.seed=[0,1]"),
        "continual": (*DIGITS, "metrics.continual_every=2", "metrics.continual_samples=30"),
        "objective": (*DIGITS, "method=gem", "objective=der", "buffer=reservoir"),
        "rounds": (*DIGITS, *several, "memory_budget=1e-9"),
        "drawn orders": (*DIGITS, "benchmark.class_order=drawn", "replicas.seed=[0,1,2]"),
        "margins": (*DIGITS, "method=gem", "replicas.margin=[0,0.5]", "metrics.convention=gem"),
        "momentum": (*DIGITS, "optimizer.momentum=0.9", "optimizer.weight_decay=0.01"),
        "whole memory": (*DIGITS, "memory_batch=null", "metrics.convention=agem"),
        "default": (),
    }
    mnist = ("threads=1", "benchmark.first_tasks=3", "benchmark.samples_per_task=100")
    for name in ("split_mnist", "permuted_mnist", "rotated_mnist"):
        runs[f"benchmark {name}"] = (*mnist, f"benchmark={name}")
    for name in ("gem_mnist_rotations", "agem_permuted_mnist", "der_permuted_mnist"):
        runs[f"experiment {name}"] = (
            *mnist,
            f"+experiment={name}",
            "benchmark.samples_per_task=90",
        )
    few = ("benchmark.samples_per_task=40", "threads=1", "benchmark.first_tasks=2")
    images = (*few, "metrics.lca_batches=1", "alignment.every=1")
    runs |= {
        "benchmark five_datasets": (
            *images,
            "benchmark=five_datasets",
            "benchmark.datasets=[mnist,digits]",
        ),
        "experiment agem_split_cifar": (
            *images,
            "+experiment=agem_split_cifar",
            "buffer.capacity=2",
        ),
        "experiment agem_split_cifar, ewc_pp": (
            *(*images, "+experiment=agem_split_cifar", "buffer.capacity=2", "method=ewc_pp"),
        ),
        "experiment gpm_split_cifar100": (
            *(*images, "+experiment=gpm_split_cifar100", "model=lenet", "passes=2"),
        ),
        "model alexnet, dropout": (
            *(*images, "benchmark=split_cifar100", "model=alexnet", "memory_batch=8"),
            *("model.dropout=[0.2,0.2,0.5,0.5,0.5]", "method=er", "buffer=reservoir"),
        ),
        "superclasses": (
            *(*images, "benchmark=split_cifar100", "benchmark.superclasses=true"),
            *("benchmark.class_order=drawn", "model.widths=[10]"),
        ),
    }
    return runs


def hashes(overrides: tuple[str, ...]) -> dict[str, str]:
    """Of each file of results that a run with these overrides leaves."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = gradalign(["train", *overrides, f"hydra.run.dir={run}"])
        if code:
            return {"failed": said.getvalue().strip().splitlines()[-1]}
        files = {name: run / name for name in RESULTS}
        texts = {name: path.read_text() for name, path in files.items() if path.exists()}
        record = json.loads((run / "record.json").read_text())
    texts["record.json"] = json.dumps([record.get(entry) for entry in RECORDED])
    return {
        name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        for name, text in texts.items()
    }


def main() -> int:
    """Write or compare; 1 where something differs or a configuration fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="configurations whose name holds this text")
    chosen = parser.parse_args()
    begin = time.perf_counter()
    todo = {name: o for name, o in configurations().items() if chosen.only in name}
    results = {name: hashes(overrides) for name, overrides in todo.items()}
    bad = [f"{name}: {files['failed']}" for name, files in results.items() if "failed" in files]
    if chosen.action == "write":
        chosen.file.write_text(json.dumps(results, indent=1) + "\n")
    else:
        before = json.loads(chosen.file.read_text())
        for name, files in results.items():
            other = [file for file in before.get(name, {}) if before[name][file] != files.get(file)]
            if other or name not in before:
                bad.append(f"{name}: {', '.join(other) or 'not in the file'}")
    print("\n".join(bad) or f"{len(results)} configurations, all as expected")
    print(f"{time.perf_counter() - begin:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
