"""Whether a refactoring left every result as it was, bit for bit.

    python scripts/check_refactoring.py write FILE      before the change
    python scripts/check_refactoring.py compare FILE    after it

Trains small configurations that between them use every method, buffer, benchmark, stream, schedule
and engine, and the settings of five papers' experiments. `write` stores a hash of each file of
results; `compare` names the configurations whose hashes have changed and ends with exit code 1.
Times are left out. MNIST and CIFAR-100 must be in the data folder. Takes about two minutes. Needs
no extra. It checks the gradalign that is installed, or that of a folder named in PYTHONPATH.
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
from typing import Any

from gradalign_cli.cli import main as gradalign

CONF = Path(__file__).resolve().parents[1] / "conf"
RESULT_FILES = (
    "accuracy.csv",
    "accuracy_task.csv",
    "forgetting.csv",
    "alignment.csv",
    "continual.csv",
    "metrics.json",
)
RECORD_ENTRIES = (  # entries of record.json that depend on no clock and no machine
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

Overrides = tuple[str, ...]
Configurations = dict[str, Overrides]  # by a name

SMALL = ("benchmark.first_tasks=3", "benchmark.samples_per_task=60", "alignment.every=1")
DIGITS = (*SMALL, "model.widths=[20]", "memory_batch=20", "metrics.lca_batches=3", "threads=1")
FOUR_REPLICAS = ("replicas.seed=[0,1]", "replicas.lr=[0.03,0.1]")
MNIST = ("threads=1", "benchmark.first_tasks=3", "benchmark.samples_per_task=100")
CIFAR = (
    *("benchmark.samples_per_task=40", "threads=1", "benchmark.first_tasks=2"),
    *("metrics.lca_batches=1", "alignment.every=1"),
)


def group_choices(group: str) -> list[str]:
    """The choices of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def configurations() -> Configurations:
    """The overrides of each configuration, by its name."""
    return (
        method_configurations()
        | buffer_configurations()
        | engine_configurations()
        | scenario_configurations()
        | stream_configurations()
        | setting_configurations()
        | mnist_configurations()
        | cifar_configurations()
    )


def method_configurations() -> Configurations:
    """Every method on the digits."""
    return {f"method {method}": (*DIGITS, f"method={method}") for method in group_choices("method")}


def buffer_configurations() -> Configurations:
    """Every buffer with a replayed batch, and with references and several replicas."""
    runs: Configurations = {}
    for name in group_choices("buffer"):
        capacity = 4 if name in ("ring", "ring_per_class") else 40
        buffer = (f"buffer={name}", f"buffer.capacity={capacity}")
        runs[f"buffer {name}"] = (*DIGITS, "method=er", *buffer)
        references = ("method=agem", *buffer, "memory_batch=5")
        runs[f"buffer {name}, agem"] = (*DIGITS, *references, *FOUR_REPLICAS)
    return runs


def engine_configurations() -> Configurations:
    """Every engine with methods that use different parts of a step, on long tasks."""
    long = ("benchmark.samples_per_task=240", "batch_size=2", "alignment.every=7")
    return {
        f"engine {engine}, {method}": (
            *(*DIGITS, *long, *FOUR_REPLICAS, f"engine={engine}", f"method={method}"),
        )
        for engine in ("eager", "graph", "vmap", "streams")
        for method in ("agem", "gem", "derpp", "gpm", "mir")
    }


def scenario_configurations() -> Configurations:
    """Class- and domain-incremental tasks."""
    return {
        f"{scenario}, {method}": (*(*DIGITS, f"benchmark.scenario={scenario}", f"method={method}"),)
        for scenario in ("class", "domain")
        for method in ("agem", "ewc", "lwf", "er_ace", "si")
    }


def stream_configurations() -> Configurations:
    """Every stream."""
    runs: Configurations = {}
    for method in ("agem", "er", "derpp"):
        parts = (f"method={method}", "buffer=reservoir")
        runs[f"stream blurry, {method}"] = (*DIGITS, "stream=blurry", *parts)
        task_free = ("stream=task_free", "benchmark.scenario=class")
        runs[f"stream task_free, {method}"] = (*DIGITS, *task_free, *parts)
    return runs


def setting_configurations() -> Configurations:
    """Settings of training, tests and replicas, on the digits."""
    plateau = ("schedule=plateau", "schedule.patience=1", "schedule.least_lr=0.05", "passes=4")
    return {
        "schedule": (*DIGITS, *plateau, "replicas.seed=[0,1]"),
        "continual": (*DIGITS, "metrics.continual_every=2", "metrics.continual_samples=30"),
        "objective": (*DIGITS, "method=gem", "objective=der", "buffer=reservoir"),
        "rounds": (*DIGITS, *FOUR_REPLICAS, "memory_budget=1e-9"),
        "drawn orders": (*DIGITS, "benchmark.class_order=drawn", "replicas.seed=[0,1,2]"),
        "margins": (*DIGITS, "method=gem", "replicas.margin=[0,0.5]", "metrics.convention=gem"),
        "momentum": (*DIGITS, "optimizer.momentum=0.9", "optimizer.weight_decay=0.01"),
        "whole memory": (*DIGITS, "memory_batch=null", "metrics.convention=agem"),
        "default": (),
    }


def mnist_configurations() -> Configurations:
    """Benchmarks and experiments on MNIST."""
    runs: Configurations = {
        f"benchmark {name}": (*MNIST, f"benchmark={name}")
        for name in ("split_mnist", "permuted_mnist", "rotated_mnist")
    }
    for name in ("gem_mnist_rotations", "agem_permuted_mnist", "der_permuted_mnist"):
        overrides = (f"+experiment={name}", "benchmark.samples_per_task=90")
        runs[f"experiment {name}"] = (*MNIST, *overrides)
    return runs


def cifar_configurations() -> Configurations:
    """Benchmarks, experiments and models with convolutions."""
    agem_split_cifar = ("+experiment=agem_split_cifar", "buffer.capacity=2")
    return {
        "benchmark five_datasets": (
            *(*CIFAR, "benchmark=five_datasets", "benchmark.datasets=[mnist,digits]"),
        ),
        "experiment agem_split_cifar": (*CIFAR, *agem_split_cifar),
        "experiment agem_split_cifar, ewc_pp": (*CIFAR, *agem_split_cifar, "method=ewc_pp"),
        "experiment gpm_split_cifar100": (
            *(*CIFAR, "+experiment=gpm_split_cifar100", "model=lenet", "passes=2"),
        ),
        "model alexnet, dropout": (
            *(*CIFAR, "benchmark=split_cifar100", "model=alexnet", "memory_batch=8"),
            *("model.dropout=[0.2,0.2,0.5,0.5,0.5]", "method=er", "buffer=reservoir"),
        ),
        "superclasses": (
            *(*CIFAR, "benchmark=split_cifar100", "benchmark.superclasses=true"),
            *("benchmark.class_order=drawn", "model.widths=[10]"),
        ),
    }


def result_hashes(overrides: Overrides) -> dict[str, str]:
    """The hash of each file of results that a run with these overrides leaves, or under `failed`
    the last line that a failed run printed."""
    with TemporaryDirectory() as folder:
        run_folder = Path(folder) / "run"
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                code: Any = gradalign(["train", *overrides, f"hydra.run.dir={run_folder}"])
            except SystemExit as refused:  # in a sentence
                code = refused.code
        if code:
            return {"failed": output.getvalue().strip().splitlines()[-1]}
        files = {name: run_folder / name for name in RESULT_FILES}
        texts = {name: path.read_text() for name, path in files.items() if path.exists()}
        record = json.loads((run_folder / "record.json").read_text())
    texts["record.json"] = json.dumps([record.get(entry) for entry in RECORD_ENTRIES])
    return {
        name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        for name, text in texts.items()
    }


def differences(results: dict[str, dict[str, str]], before: dict[str, dict[str, str]]) -> list[str]:
    """A line for each configuration whose hashes differ from those before, or that only one of
    them has.

    results, before: the hashes of each configuration, by its name.
    """
    lines = [f"{name}: only in the file" for name in before if name not in results]
    for name, hashes in results.items():
        if name not in before:
            lines.append(f"{name}: not in the file")
            continue
        files = before[name] | hashes
        changed = [file for file in files if before[name].get(file) != hashes.get(file)]
        if changed:
            lines.append(f"{name}: {', '.join(changed)}")
    return lines


def main() -> int:
    """Write or compare. Returns 1 where a configuration fails or its results differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="configurations whose name holds this text")
    options = parser.parse_args()
    begin = time.perf_counter()
    results = {
        name: result_hashes(overrides)
        for name, overrides in configurations().items()
        if options.only in name
    }
    if not results:
        parser.error(f"no configuration has {options.only!r} in its name")
    problems = [
        f"{name}: {files['failed']}" for name, files in results.items() if "failed" in files
    ]
    if options.action == "write":
        options.file.write_text(json.dumps(results, indent=1) + "\n")
    else:
        before = json.loads(options.file.read_text())
        chosen = {name: hashes for name, hashes in before.items() if options.only in name}
        problems += differences(results, chosen)
    print("\n".join(problems) or f"{len(results)} configurations, all as expected")
    print(f"{time.perf_counter() - begin:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
