import pytest
import torchvision
from omegaconf import OmegaConf

from gradalign_cli.composition import targets
from gradalign_cli.composition.named_modules import ADAPTER, module_builder_argument
from gradalign_cli.composition.targets import allow_plugins
from gradalign_cli.errors import UserError

MINE = """
from torch import nn
import torch.hub
class Net(nn.Linear):
    pass
def make(outputs):
    return nn.Linear(1, outputs)
"""


@pytest.fixture(autouse=True)
def my_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "PLUGINS", [])
    monkeypatch.setattr("sys.path", [*__import__("sys").path, str(tmp_path)])
    (tmp_path / "my_networks.py").write_text(MINE)


def named(name):
    """What a config's `model.module` is."""
    build = module_builder_argument(OmegaConf.create({"_target_": ADAPTER, "module": name}))[
        "build"
    ]
    (named_function,) = [
        cell.cell_contents for cell in build.__closure__ if callable(cell.cell_contents)
    ]
    return named_function


def test_networks_of_torchvision_and_of_plugins_can_be_named():
    assert named("torchvision.models.resnet18") is torchvision.models.resnet18
    assert named("torchvision.models.resnet.ResNet") is torchvision.models.ResNet
    assert named("torchvision.models.get_model") is torchvision.models.get_model
    allow_plugins(["my_networks"], [])
    assert named("my_networks.Net").__name__ == "Net"
    assert named("my_networks.make").__name__ == "make"
    assert (
        module_builder_argument(OmegaConf.create({"_target_": "mine.mlp", "module": "os.system"}))
        == {}
    )


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.load",
        "my_networks.Net",
        "my_networks.torch.hub.load",
        "timm.create_model",
        "torchvision.models_of_a_stranger.net",
        "torchvision.models.get_weight",
        "torchvision.models.list_models",
        "torchvision.models.ResNet18_Weights.IMAGENET1K_V1.get_state_dict",
        "torchvision.models.resnet.nn.Linear",
        "torchvision.models.resnet.partial",
        "torchvision.models.resnet",
        "torchvision.models.nothing",
        "",
        None,
        5,
    ],
)
def test_nothing_else_that_a_config_names_is_called(name):
    with pytest.raises(UserError, match="model") as error:
        named(name)
    assert "\n" not in str(error.value)


def test_a_plugin_does_not_lend_its_trust_to_what_it_imports():
    allow_plugins(["my_networks"], [])
    with pytest.raises(UserError, match="found one of torch"):
        named("my_networks.torch.hub.load")


def test_a_network_that_could_not_fit_is_refused_before_it_takes_memory():
    config = OmegaConf.create({"_target_": ADAPTER, "module": "torchvision.models.resnet50"})
    build = module_builder_argument(config)["build"]
    with pytest.raises(
        UserError, match=r"`model\.arguments` must be smaller: the run needs .* GiB"
    ):
        build(width_per_group=100_000)
    assert module_builder_argument(config)["build"](num_classes=3).fc.out_features == 3
