"""Folders in the layout of timm's models on the hub, with small networks in them."""

import json

import timm
import torch
from safetensors.torch import save_file

VIT = "vit_tiny_patch8_112.made_up"
CONVNEXT = "convnext_atto.made_up"

# In the form of the hub's config.json: a plain architecture, and what it is changed to.
CONFIGS = {
    VIT: {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 512,
        "model_args": {"img_size": 112, "patch_size": 8, "depth": 2},
    },
    CONVNEXT: {
        "architecture": "convnext_atto",
        "num_classes": 512,
        "model_args": {"depths": [1, 1, 1, 1]},
    },
}
NORMALISED = {"input_size": [3, 112, 112], "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2]}


def fill(folder, name, **changes):
    """A folder in the hub's layout, and the network whose weights are in it."""
    config = {**CONFIGS[name], "pretrained_cfg": {**NORMALISED, "first_conv": "stem.0"}, **changes}
    config["pretrained_cfg"]["classifier"] = "head" if name == VIT else "head.fc"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(
            config["architecture"], num_classes=config["num_classes"], **config["model_args"]
        ).eval()
        for parameter in network.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), folder / "model.safetensors")
    return network


def fill_cache(cache, repository, name):
    """The cache of the hub as it is after a download, and the network in it."""
    cached = cache / f"models--{repository.replace('/', '--')}"
    network = fill(cached / "snapshots" / "0123abc", name)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abc")
    return network
