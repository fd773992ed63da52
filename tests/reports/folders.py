"""Run folders for the tests of reports, written without training."""

import json

import numpy as np

CONFIG = {
    "name": "toy", "quick": False, "passes": 1, "batch_size": 10, "device": "auto",
    "replicas": {"seed": [0], "lr": 0.1}, "metrics": {"convention": "standard"},
    "benchmark": {"_target_": "x.split.split", "dataset": "digits", "scenario": "class"},
    "buffer": {"_target_": "x.ring.ring", "capacity": 50},
    "method": {"name": "agem", "_target_": "x.agem.agem"},
}  # fmt: skip


def config(method="agem", **changes):
    """A config with another method, and with settings changed by `part__name=value` or `name`."""
    changed = json.loads(json.dumps(CONFIG))
    changed["method"] = {"name": method, "_target_": f"x.{method}.{method}"}
    for name, value in changes.items():
        part, _, entry = name.rpartition("__")
        (changed[part] if part else changed)[entry] = value
    return changed


def write_run(
    folder, method="agem", accuracies=(0.5, 0.6), seeds=None, lr=0.1, record=None, **changes
):
    """A finished run of two tasks: ACC of each seed is given, task 1 ends with it, task 2 too."""
    folder.mkdir(parents=True)
    seeds = range(len(accuracies)) if seeds is None else seeds
    settings = [{"seed": seed, "lr": lr} for seed in seeds]
    replicas = [
        setting | {"ACC": value, "BWT": value - 0.9, "forgetting": 0.9 - value}
        for setting, value in zip(settings, accuracies, strict=True)
    ]
    content = {
        "config": config(method, **changes), "replicas": settings, "fingerprint": "f",
        "training_seconds": 4.0, "backward_passes": 100 * len(settings), "measured_steps": 8,
        "kept_bytes": 2**21, "stored_examples": [50] * len(settings), "broken_constraints": 2.0,
        "numerics": 2,
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(content | (record or {})))
    (folder / "metrics.json").write_text(json.dumps({"replicas": replicas}))
    rows = ["replica,after_task,task_1,task_2"]
    for r, value in enumerate(accuracies):
        rows += [f"{r},0,0.1,0.1", f"{r},1,0.9,0.1", f"{r},2,{value},{value}"]
    (folder / "accuracy.csv").write_text("\n".join(rows) + "\n")
    lines = ["replica,task,step,loss,ref_loss,cosine,violated,norm_ratio"]
    for r in range(len(accuracies)):
        lines += [f"{r},1,1,2.0,,,,1", f"{r},2,1,2.0,1.0,-0.5,1,0.8", f"{r},2,11,1.0,1.0,0.25,0,1"]
    (folder / "alignment.csv").write_text("\n".join(lines) + "\n")
    return folder


def noisy(mean, n=6, seed=0):
    """Accuracies of n seeds about a mean."""
    return [round(float(v), 4) for v in mean + np.random.default_rng(seed).normal(0, 0.01, n)]
