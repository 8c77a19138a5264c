"""The training loop, top to bottom: data, method, optimiser, precision, EMA, DDP, validation, checkpoint, resume.

A checkpoint is written after every epoch, and all randomness of an epoch is a function of (seed, epoch, position),
so a run that was killed at any moment and started again ends with the same bits as an unbroken one.
"""

import json
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch.nn.parallel import DistributedDataParallel

from benchmark.data.tiles import Tiles, random_tiles
from benchmark.evaluation import test_set
from benchmark.evaluation.prediction import Prediction
from benchmark.layers.image_ops import centre
from benchmark.metrics.panoptic import tally
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.results import training_log
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.precision import autocast, precision_on
from benchmark.runtime.progress import Progress
from benchmark.training import checkpoint, loader, optim
from benchmark.training.recipe import prediction_of


@dataclass
class Trained:
    """What training left behind: the epoch selected on validation, its bPQ, the time and the epochs that ran."""

    best_epoch: int
    best_bpq: float | None
    seconds: float
    epochs: int


def train(
    method,
    data,
    fold: int,
    seed: int,
    recipe: dict,
    folder: RunFolder,
    world,
    *,
    key: str,
    pretrained: str,
    published: bool,
    say,
) -> Trained:
    """Train `method` on split `fold` of `data`, resuming from `folder` when a checkpoint with the same key is there.

    Leaves the selected weights and the training log in `folder`.

    Args:
        data: a `data.store.prepare.Prepared`.
        recipe: see `experiments/_base_/matched.py`.
        key: identity of the result; a checkpoint of another identity is not resumed.
        pretrained: mark of the backbone's weights; nor is one that began with others.
        published: train in the method's published phases rather than the matched recipe's.
        say: function that prints a line of progress.
    """
    deterministic()
    device = world.device
    training, validation, judged = sides(data, fold, recipe, seed)
    precision = precision_on(recipe["precision"], device)
    phases = method.phases(published)
    epochs = recipe["epochs"]
    for phase in phases:
        size = min(batch_of(phase, recipe), recipe["samples"] or len(training))
        if size % world.size:
            raise InputError(f"{world.size} processes cannot share batches of {size} images equally; set recipe.batch.")

    method.to(device)
    ema = ModelEmaV3(method, decay=recipe["ema"], use_warmup=True) if recipe["ema"] else None
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    best: dict = {"epoch": -1, "bpq": None}
    log, seconds, first, stale = [], 0.0, 0, 0
    optimiser, phase_now, feed, model = None, None, None, method

    state = checkpoint.load(folder.checkpoint) if folder.checkpoint.exists() else None
    place = {"key": key, "precision": precision, "processes": world.size, "pretrained": pretrained}
    if state is not None and state["place"] != place:
        differing = ", ".join(k for k in place if state["place"].get(k) != place[k])
        say(f"the checkpoint here was made under another {differing}; starting over")
        state = None
    if state is not None:
        method.load_state_dict(state["method"])
        if ema:
            ema.module.load_state_dict(state["ema"])
        scaler.load_state_dict(state["scaler"])
        best, log, seconds, stale = state["best"], json.loads(state["log"]), state["seconds"], state["stale"]
        first = state["epoch"] + 1
        say(f"resuming after epoch {first} of {epochs}")

    for epoch in range(first, epochs):
        if recipe["patience"] and stale >= recipe["patience"]:
            break
        began = time.perf_counter()

        phase = [p for p in phases if p.start * epochs <= epoch][-1]
        if phase is not phase_now:
            method.set_tune(phase.tune)
            feed = loader.training_loader(training, method, recipe, data, seed, world, batch_of(phase, recipe))
            if optimiser is None or phase.reset:
                optimiser = optim.optimiser(method, recipe["optimiser"])
            if state is not None:
                if state["phase"] == phases.index(phase) or not phase.reset:
                    optimiser.load_state_dict(state["optimiser"])
                state = None
            model = DistributedDataParallel(method, find_unused_parameters=True) if world.size > 1 else method
            phase_start = round(phase.start * epochs) if phase.reset else 0
            phase_now = phase
        assert optimiser is not None and feed is not None, "the first epoch begins a phase"

        method.train()
        feed.batch_sampler.epoch = epoch
        torch.manual_seed(int(np.random.SeedSequence([seed, 2, epoch, world.rank]).generate_state(1)[0]))
        totals: dict[str, float] = {}
        show = Progress(f"epoch {epoch + 1}/{epochs}:", "updates", world.first, end=False)
        show(0, len(feed))
        for step, batch in enumerate(feed):
            factor = optim.lr_factor(recipe["schedule"], epoch - phase_start, epochs - phase_start, step, len(feed))
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
            batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
            with autocast(precision, device):
                outputs = model(batch["image"])
            # an input side that the crop is no multiple of gives larger maps than targets
            outputs = {k: centre(v, *[min(s, recipe["crop"]) for s in v.shape[-2:]]) for k, v in outputs.items()}
            # losses in fp32: their sums over pixels overflow half precision
            terms = method.loss({k: v.float() for k, v in outputs.items()}, batch)
            loss = sum(terms.values())
            if not torch.isfinite(loss):
                raise InputError(
                    f"The loss became {float(loss)} in epoch {epoch + 1}, update {step + 1} "
                    f"({', '.join(f'{k} {float(v):.3g}' for k, v in terms.items())}); lower recipe.optimiser.lr, "
                    "set recipe.clip or use recipe.precision=fp32."
                )
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            if recipe["clip"]:
                scaler.unscale_(optimiser)
                torch.nn.utils.clip_grad_norm_([p for p in method.parameters() if p.requires_grad], recipe["clip"])
            scaler.step(optimiser)
            scaler.update()
            if ema:
                ema.update(method, step=epoch * len(feed) + step)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
            show(step + 1, len(feed))

        line = {"epoch": epoch, "lr": optimiser.param_groups[0]["lr"], "phase": phases.index(phase)}
        line["terms"] = {k: v / len(feed) for k, v in totals.items()}
        line["loss"] = sum(line["terms"].values())
        world.share_buffers(method)
        if ema:
            world.share_buffers(ema.module)
        if (epoch + 1) % recipe["eval_every"] == 0 or epoch + 1 == epochs:
            chosen = ema.module if ema else method
            bpq = validate(chosen, validation, judged, world, data, recipe["selection"])
            line["val_bPQ"] = bpq
            stale += 1
            if best["epoch"] < 0 or bpq >= (best["bpq"] or 0.0):  # a tie goes to the later epoch, as published
                best, stale = {"epoch": epoch, "bpq": bpq}, 0
                if world.first and recipe["select"] == "best":
                    checkpoint.save_weights(folder.weights, chosen)
        line["seconds"] = round(time.perf_counter() - began, 3)
        seconds += line["seconds"]
        log.append(line)
        if world.first:
            training_log.write(folder.log, log)
            checkpoint.save(
                folder.checkpoint,
                {
                    "place": place,
                    "epoch": epoch,
                    "phase": phases.index(phase),
                    "method": method.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "ema": ema.module.state_dict() if ema else {},
                    "scaler": scaler.state_dict(),
                    "best": best,
                    "log": json.dumps(log),
                    "seconds": seconds,
                    "stale": stale,
                },
            )
            say(_progress(line, log, epochs, seconds))
        world.barrier()
    if recipe["select"] == "last":
        best = {"epoch": log[-1]["epoch"], "bpq": log[-1].get("val_bPQ")}
        if world.first:
            checkpoint.save_weights(folder.weights, ema.module if ema else method)
        world.barrier()
    return Trained(best["epoch"], best["bpq"], seconds, len(log))


def sides(data, fold: int, recipe: dict, seed: int) -> tuple:
    """(training images, validation images, how these are predicted): whole patches, or x40 tiles of them.

    With `validation="split"` validation patches are predicted whole, stitched like test patches, and share no source
    image with the training; `random_tiles` is the published CoNIC recipe: a fifth of all tiles outside the test side.
    """
    training, validation = data.subset(fold, "train"), data.subset(fold, "val")
    prediction = prediction_of(recipe)
    if recipe["tiling"] == "none":
        return training, validation, prediction
    classes = len(data.classes)
    if recipe["validation"] == "random_tiles":
        return *random_tiles([training, validation], classes, 0.2, seed), replace(prediction, tiling="none")
    return Tiles([training], classes), validation, prediction


def batch_of(phase, recipe: dict) -> int:
    """Images per update in a phase, over all processes."""
    return max(1, round(recipe["batch"] * phase.batch_scale))


def validate(method, subset, prediction: Prediction, world, data, selection: str) -> float:
    """Mean image bPQ on the validation subset: in the `cellvit` protocol (images without nuclei left out), or "raw"."""
    typed = method.has_types and bool(data.classes)
    records = test_set.join(world.gather(test_set.evaluate(method, subset, prediction, world, typed))).records
    if selection == "raw":
        return raw_bpq(records)
    images = PROTOCOLS["cellvit"].images(records, len(data.classes))
    return float(np.nanmean(images["bPQ"])) if images["bPQ"].notna().any() else 0.0


def raw_bpq(records) -> float:
    """Mean image bPQ as the published trainings select by: every instance of the decoded map counts, those without
    type or outline too, and an image whose truth is empty scores 0 instead of being left out."""
    columns = records.columns
    counts = tally(columns.image, columns.true, columns.pred, columns.pixels, columns.n)
    return float(np.mean(counts.quality(dq_eps=1e-6)[2])) if columns.n else 0.0


def deterministic() -> None:
    """Ask torch for bit-reproducible kernels; an op that has none warns instead of stopping the run."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _progress(line: dict, log: list[dict], epochs: int, seconds: float) -> str:
    left = seconds / len(log) * (epochs - len(log))
    bpq = f", validation bPQ {line['val_bPQ']:.4f}" if "val_bPQ" in line else ""
    return f"epoch {line['epoch'] + 1}/{epochs}: loss {line['loss']:.4f}{bpq}, {seconds:.0f} s, about {left:.0f} s left"
