"""Networks from outside under every engine: equal to eager, or a sentence. And the price of the
adapter: steps a second of torchvision's layers and of our ResNet18 beside each other.

    python scripts/try_modules.py [--methods agem er] [--networks vit]

It needs torchvision, and timm for `timm_vit`. It trains for some steps on random images and takes
half an hour on two cores.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from gradalign_cli.benchmarks.split import split
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.replicas import build_method, read_replica_settings
from gradalign_cli.data import Dataset
from gradalign_cli.engines import recorded
from gradalign_cli.engines.choice import ENGINES, obstacle_of
from gradalign_cli.models.model import Model
from gradalign_cli.models.module import module
from gradalign_cli.models.resnet import resnet18
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.outcome import Outcome
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.replica_groups import train_replica_group

SHAPE, CLASSES = (3, 32, 32), 4
METHODS = ("agem", "er", "derpp", "gpm", "ewc", "gem")


def cifar_resnet18(num_classes: int) -> nn.Module:
    """torchvision's ResNet18 with the stem that is usual on CIFAR, which its arguments cannot
    ask for."""
    network: nn.Module = torchvision.models.resnet18(num_classes=num_classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def small_vit(num_classes: int) -> nn.Module:
    """A transformer for 32 x 32 images, with dropout."""
    network: nn.Module = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=num_classes, dropout=0.1,
    )  # fmt: skip
    return network


def small_timm_vit(num_classes: int) -> nn.Module:
    """timm's transformer for 32 x 32 images, with dropped paths."""
    from timm.models.vision_transformer import VisionTransformer

    network: nn.Module = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2.0,
        num_classes=num_classes, drop_path_rate=0.1,
    )  # fmt: skip
    return network


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "vit": small_vit,
    "timm_vit": small_timm_vit,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
    "resnet18": torchvision.models.resnet18,
}


def make_model(name: str, outputs: int) -> Model:
    """A network from outside as a model."""
    return module(name, {"num_classes": outputs}, None, SHAPE, outputs, NETWORKS[name])


def make_parts(model: Model, method: str, seeds: int) -> tuple[Parts, list[Replica]]:
    """Two tasks of two classes of random images, with the defaults of a method."""
    source = np.random.default_rng(0)
    images = source.integers(0, 256, (10 * CLASSES, *SHAPE), dtype=np.uint8)
    data = Dataset("random", images, np.arange(10 * CLASSES) % CLASSES, 8 * CLASSES, CLASSES, None)
    benchmark = split(data, 2, "task")
    numbers = f"replicas.seed={list(range(seeds))}"
    composed = compose_config(CONF, [f"method={method}", numbers, "replicas.lr=0.001"]).settings
    config = OmegaConf.create(composed)
    settings = read_replica_settings(config)
    methods = [build_method(config, each) for each in settings]
    config.buffer.capacity, config.buffer.capacity_per = 16, "total"
    buffer = call_target("buffer", config.buffer, tasks=2, classes_per_task=2)
    optimizer = call_target("optimizer", config.optimizer)
    replicas = [
        Replica(int(each["seed"]), 0.001, one, benchmark.make_stream(int(each["seed"])))
        for each, one in zip(settings, methods, strict=True)
    ]
    return Parts(benchmark, model, methods[0], buffer, optimizer, 8), replicas


def difference(left: Outcome, right: Outcome) -> float:
    """How far parameters and statistics differ, as a share of how long they are."""
    pairs = [(left.learners.params, right.learners.params)]
    pairs += [(left.learners.statistics, right.learners.statistics)]
    return max(
        float((a - b).norm() / a.norm()) for a, b in pairs if a.numel() and float(a.norm()) > 0
    )


def shifted_init(model: Model) -> Callable[[torch.Generator], torch.Tensor]:
    """The network's first weights, each the next larger number."""
    return lambda source: torch.nextafter(model.init(source), torch.tensor(torch.inf))


def try_engines(network: str, method: str) -> None:
    """Print what each engine makes of a network and method; the yardstick is what eager makes of
    first weights that differ in the last bit."""
    parts, replicas = make_parts(make_model(network, CLASSES), method, 2)
    plan, results = TrainingPlan(1, 8, 1, 0), []
    eager = train_replica_group(parts, replicas, ENGINES["eager"](), plan, [])
    shifted = parts._replace(model=parts.model._replace(init=shifted_init(parts.model)))
    yardstick = train_replica_group(shifted, replicas, ENGINES["eager"](), plan, [])
    results.append(f"last bit: {difference(eager, yardstick):.1e}")
    for name in ("graph", "streams", "vmap"):
        obstacle = obstacle_of(name, parts.model)
        if obstacle:
            results.append(f"{name}: refused, as {obstacle}")
            continue
        outcome = train_replica_group(parts, replicas, ENGINES[name](), plan, [])
        results.append(f"{name}: {difference(eager, outcome):.1e}")
    print(f"{network} {method}: {'; '.join(results)}", flush=True)


def steps_per_second(model: Model, steps: int) -> float:
    """Steps of fine-tuning a second, batches of 10, after two of warming up."""
    params = model.init(torch.Generator().manual_seed(0))
    statistics = model.initial_statistics
    images, target = torch.rand(10, *SHAPE), torch.arange(10) % CLASSES
    for step in range(steps + 2):
        if step == 2:
            begin = time.perf_counter()
        leaf = params.detach().requires_grad_()
        output = model.apply(leaf, statistics, images, True, ())
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(output.logits, target), leaf)
        params, statistics = params - 0.01 * g, output.statistics
    return steps / (time.perf_counter() - begin)


def main() -> None:
    """Try all, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=10, help="measured of each ResNet18")
    options: Any = parser.parse_args()
    warnings.simplefilter("ignore")
    recorded.MIN_CALLS_TO_RECORD = 2
    for network in options.networks:
        for method in options.methods:
            try_engines(network, method)
    if options.steps:
        adapted = module("cifar", {"num_classes": CLASSES}, None, SHAPE, CLASSES, cifar_resnet18)
        ours = resnet18(64, True, SHAPE, CLASSES, layout="channels_first")
        last = resnet18(64, True, SHAPE, CLASSES, layout="channels_last")
        for _ in range(2):
            for name, model in (("module", adapted), ("ours", ours), ("ours, channels last", last)):
                print(f"resnet18, {name}: {steps_per_second(model, options.steps):.2f} steps/s")


if __name__ == "__main__":
    main()
