"""A network on its device."""

import torch
from torch import nn


def placed(network: nn.Module, device: torch.device | str) -> nn.Module:
    """The network itself, moved to the device; on a GPU with the weights of its convolutions channels last in memory.

    Else torch lays them out anew in every pass, and their gradients back: maps have their channels last there, see
    `methods.base.Method.normalise`.
    """
    network.to(device)
    if torch.device(device).type == "cuda":
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)
    return network
