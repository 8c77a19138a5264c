"""Optimiser, learning-rate schedule and precision from a recipe."""

import math

import torch

from benchmark.runtime.errors import InputError


def optimiser(method, plan: dict) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over the method's parameter groups. plan: {"name", "lr", "betas", "weight_decay"}."""
    groups = method.groups(plan["lr"], plan["weight_decay"])
    name = plan["name"]
    made: torch.optim.Optimizer
    if name == "adamw":
        made = torch.optim.AdamW(groups, betas=tuple(plan["betas"]))
    elif name == "adam":
        made = torch.optim.Adam(groups, betas=tuple(plan["betas"]))
    elif name == "sgd":
        made = torch.optim.SGD(groups, momentum=plan["betas"][0])
    else:
        raise InputError(f"recipe.optimiser.name is '{name}'; expected adamw, adam or sgd.")
    for group in made.param_groups:
        group["initial_lr"] = group["lr"]
    return made


def lr_factor(plan: dict, epoch: int, epochs: int, step: int, steps: int) -> float:
    """Factor on the initial learning rate before update `step` of `steps` in `epoch` of `epochs` (all from 0).

    cosine: linear warm-up over the share `warmup`, then half a cosine down to `final`; exponential: gamma per
    epoch; step: gamma every 25 epochs (HoVer-Net); constant: 1.
    """
    name = plan["name"]
    if name == "constant":
        return 1.0
    if name == "exponential":
        return plan["gamma"] ** epoch
    if name == "step":
        return plan["gamma"] ** (epoch // 25)
    if name == "cosine":
        progress = (epoch * steps + step) / max(1, epochs * steps)
        if progress < plan["warmup"]:
            return (epoch * steps + step + 1) / max(1, math.ceil(plan["warmup"] * epochs * steps))
        progress = (progress - plan["warmup"]) / max(1e-9, 1 - plan["warmup"])
        return plan["final"] + (1 - plan["final"]) * 0.5 * (1 + math.cos(math.pi * progress))
    raise InputError(f"recipe.schedule.name is '{name}'; expected cosine, exponential, step or constant.")
