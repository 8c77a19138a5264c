"""Optimiser and learning-rate schedule from a recipe.

The rate itself is `recipe.optimiser.lr`: declared in `training.recipe`, set per scale in `training.scales`.
"""

import math

import torch

from benchmark.training.recipe import Optimiser, Schedule


def optimiser(method, settings: Optimiser) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over the method's parameter groups; each group's `initial_lr` is its rate before `decay`."""
    groups = method.groups(settings.lr, settings.weight_decay)
    if settings.name == "sgd":
        chosen = torch.optim.SGD(groups, momentum=settings.betas[0])
    else:
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.name]
        # one pass over each tensor instead of a dozen small ones: 4 times faster on a CPU, 1 to 5 % of an update
        chosen = kind(groups, betas=settings.betas, fused=True)
    for group in chosen.param_groups:
        group["initial_lr"] = group["lr"]
    return chosen


def decay(chosen: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its initial one."""
    for group in chosen.param_groups:
        group["lr"] = group["initial_lr"] * factor


def lr_factor(schedule: Schedule, epoch: int, epochs: int, step: int, steps: int) -> float:
    """Factor on the initial learning rate before update `step` of `steps` in `epoch` of `epochs` (all from 0).

    cosine: linear warm-up over the share `warmup`, then half a cosine down to `final`; exponential: gamma per
    epoch; step: gamma every 25 epochs (HoVer-Net); constant: 1.
    """
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "exponential":
        return schedule.gamma**epoch
    if schedule.name == "step":
        return schedule.gamma ** (epoch // 25)
    progress = (epoch * steps + step) / max(1, epochs * steps)
    if progress < schedule.warmup:
        return (epoch * steps + step + 1) / max(1, math.ceil(schedule.warmup * epochs * steps))
    progress = (progress - schedule.warmup) / max(1e-9, 1 - schedule.warmup)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))
