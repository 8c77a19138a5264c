"""The training loop. `train` reads from top to bottom: data, state, and for every epoch phase, updates, validation,
checkpoint; what is inside an epoch stands in `train_epoch`.

A checkpoint is written after every epoch, and all randomness of an epoch is a function of (seed, epoch, position),
so a run that was killed at any moment and started again ends with the same bits as an unbroken one.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from benchmark.data.store.prepare import Prepared
from benchmark.layers.instance_maps import OPEN_ORDER
from benchmark.results import manifest, training_log
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.distributed import World
from benchmark.runtime.errors import InputError
from benchmark.runtime.placing import placed
from benchmark.runtime.precision import precision_on
from benchmark.runtime.progress import Progress
from benchmark.runtime.workers import Lasting
from benchmark.training import accumulate, checkpoint, compiled, graphed, loader, mirrored, optim, recompute
from benchmark.training.loss_sums import LossSums
from benchmark.training.outputs import comparable
from benchmark.training.recipe import Recipe
from benchmark.training.state import TrainState
from benchmark.training.validation import mean_of, of_sets, sides, validate

TRIED = ("compile", "graph")  # of the recipe: what may not be possible, and is said in the provenance
LOOK_EVERY = {"cpu": 1, "cuda": 50}  # device -> updates between two looks at whether the loss is finite


@dataclass(frozen=True)
class Job:
    """What a method is trained on and how, and where the training leaves its files.

    Attributes:
        data, split: prepared data and the number of the published split.
        folder: of the run.
        key: identity of the result; a checkpoint of another identity is not resumed.
        pretrained: mark of the backbone's weights; nor is one that began with others.
        published: train in the method's published phases rather than the matched recipe's.
        say: function that prints a line of progress.
    """

    data: Prepared
    split: int
    seed: int
    recipe: Recipe
    folder: RunFolder
    world: World
    key: str
    pretrained: str
    published: bool
    say: Callable[[str], None]

    @property
    def precision(self) -> str:
        """The recipe's precision as it is on this device."""
        return precision_on(self.recipe.precision, self.world.device)

    @property
    def place(self) -> dict:
        """What a checkpoint must have been made under to be resumed."""
        return {
            "key": self.key,
            "precision": self.precision,
            "processes": self.world.size,
            "pretrained": self.pretrained,
        }


@dataclass(frozen=True)
class ActivePhase:
    """The phase that an epoch belongs to.

    Attributes:
        feed: loader of its batches.
        model: the method, wrapped in DistributedDataParallel where several processes train it.
        start: epoch at which its schedule begins.
        outcomes: "compile" and "graph" -> what they came to in this process, where the recipe asks for them.
    """

    feed: Any
    model: torch.nn.Module
    start: int
    outcomes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What training left behind: the epoch selected on validation, its bPQ, the time and the epochs that ran, what
    "compile" and "graph" came to in this process, where the recipe asks for them, and `not_deterministic`."""

    best_epoch: int
    best_bpq: float | None
    seconds: float
    epochs: int
    outcomes: dict[str, str]


def train(method, job: Job) -> Trained:
    """Train `method`, resuming from the folder when a checkpoint of the same job is there.

    Leaves the selected weights and the training log in the folder.

    Raises:
        InputError: batches that the processes cannot share, a damaged checkpoint, a loss that is not finite.
    """
    recipe, world = job.recipe, job.world
    choose_kernels(recipe.deterministic)

    # ---- data
    training, validation, prediction = sides(job.data, job.split, recipe, job.seed)
    for remark in mirrored.remarks(training, job.data, recipe.crop):
        job.say(remark)
    phases = method.phases(job.published)
    starts = [math.ceil(phase.start * recipe.epochs) for phase in phases]
    check_batches(phases, recipe, len(training), world)

    # ---- state: new, or as the checkpoint left it
    state = TrainState.new(placed(method, world.device), recipe, job.precision, world.device)
    resume(state, job)
    first = state.epoch
    outcomes = {name: "no epoch was left to train" for name in TRIED if getattr(recipe, name)}
    open_order = not_deterministic(method, recipe, world.device)

    with Lasting() as decoders:
        for epoch in range(first, recipe.epochs):
            if recipe.patience and state.stale >= recipe.patience:
                break
            began = time.perf_counter()

            # ---- phase: what is trained from here on, with which batches and which optimiser
            if epoch == first or epoch in starts:
                begun = [number for number, start in enumerate(starts) if start <= epoch]
                active = enter(state, phases, begun[-1], starts, training, job)
                outcomes = active.outcomes

            # ---- updates
            line = train_epoch(state, active, epoch, job)

            # ---- validation
            if (epoch + 1) % recipe.eval_every == 0 or epoch + 1 == recipe.epochs:
                scores = {
                    name: validate(state.judged, images, prediction, world, job.data, recipe.monitor, decoders)
                    for name, images in of_sets(validation).items()
                }
                line["val_bPQ"] = mean_of(scores)
                line |= {"val_bPQ_of": scores} if len(scores) > 1 else {}
                if line["val_bPQ"] is None and state.best_epoch < 0:
                    job.say("no validation image has a bPQ, since none holds nuclei; all epochs count alike")
                is_best = state.update_best(epoch, line["val_bPQ"])
                if is_best and recipe.keep == "best" and world.first:
                    state.weights = checkpoint.save_weights(job.folder.next_weights, state.judged)

            # ---- log and checkpoint
            line["seconds"] = round(time.perf_counter() - began, 3)
            state.seconds += line["seconds"]
            state.log.append(line)
            state.epoch = epoch + 1
            if world.first:
                save(state, job)
                job.say(_progress(state, recipe.epochs))
            world.barrier()

    # ---- what is kept
    if recipe.keep == "best":
        return Trained(state.best_epoch, state.best_bpq, state.seconds, state.epoch, open_order | outcomes)
    if world.first:
        checkpoint.save_weights(job.folder.weights, state.judged)
    world.barrier()
    return Trained(state.epoch - 1, state.log[-1].get("val_bPQ"), state.seconds, state.epoch, open_order | outcomes)


def train_epoch(state: TrainState, active: ActivePhase, epoch: int, job: Job) -> dict:
    """One pass over the feed. Returns the epoch's line of the log: its number, lr, phase, mean terms and loss."""
    recipe, device, method, optimiser = job.recipe, job.world.device, state.method, state.optimiser
    feed, updates = active.feed, len(active.feed)
    method.train()
    feed.batch_sampler.epoch = epoch
    torch.manual_seed(int(np.random.SeedSequence([job.seed, 2, epoch, job.world.rank]).generate_state(1)[0]))
    losses = LossSums(device)
    show = Progress(f"epoch {epoch + 1}/{recipe.epochs}:", "updates", job.world.first, end=False)
    show(0, updates)
    for step, batch in enumerate(feed):
        # ---- forward
        position = epoch - active.start, recipe.epochs - active.start, step, updates
        optim.decay(optimiser, optim.lr_factor(recipe.schedule, *position))
        batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        seed = job.seed, 2, epoch, job.world.rank, step
        # as blocks were compiled: also where graphs were asked for and could not be had
        keep = not recipe.graph
        passes = accumulate.MicroBatches(active.model, batch["image"], recipe.accumulate, seed, job.precision, keep)
        outputs = passes.forward()

        # ---- loss
        terms = method.loss(comparable(outputs, batch, recipe.crop), batch)
        loss = sum(terms.values())
        losses.add(step + 1, terms, loss)
        # the one place inside an epoch that waits for the device (in fp16 the scaler's step is another): seldom on a
        # GPU, so that a training that went astray ends soon; a CPU is never waited for
        if (step + 1) % LOOK_EVERY[device.type] == 0:
            losses.check(epoch)

        # ---- backward and update
        optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()
        passes.backward()
        if recipe.clip:
            state.scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_([p for p in method.parameters() if p.requires_grad], recipe.clip)
        state.scaler.step(optimiser)
        state.scaler.update()
        if state.ema:
            state.ema.update(method, step=epoch * updates + step)
        show(step + 1, updates)

    losses.check(epoch)
    # all ranks judge and keep the first one's batch statistics
    job.world.share_buffers(method)
    if state.ema:
        job.world.share_buffers(state.ema.module)
    line = {"epoch": epoch, "lr": optimiser.param_groups[0]["lr"], "phase": state.phase}
    sums = job.world.gather(losses.fetch())
    line["terms"] = {name: sum(one[name] for one in sums) / len(sums) / updates for name in sums[0]}
    line["loss"] = sum(line["terms"].values())
    return line


def enter(state: TrainState, phases: list, number: int, starts: list[int], training, job: Job) -> ActivePhase:
    """Begin a phase, or continue within it: what is trainable, its batches, and where the phase or the recipe asks for
    it a fresh optimiser, blocks that are compiled or computed again, and the network's graphs.

    Args:
        phases: all of the method's; number: the index of this one.
        starts: the epoch at which each of them begins.
        training: the training images.
    """
    phase, recipe, world = phases[number], job.recipe, job.world
    method = state.method
    method.set_tune(phase.tune)
    feed = loader.training_loader(training, method, recipe, job.data, job.seed, world, batch_of(phase, recipe))
    if phase.reset and state.phase != number:
        state.optimiser = optim.optimiser(method, recipe.optimiser)
    state.phase = number
    images = min(batch_of(phase, recipe), recipe.samples or len(training))
    outcomes = {}
    vars(method).pop("forward", None)  # the graphs of an earlier phase
    if recipe.compile:
        outcomes["compile"] = compiled.compile_blocks(
            method, recipe, job.precision, world, job.say, feed.dataset[(0, 0, 0)], images
        )
    if recipe.recompute:
        recompute.recompute_blocks(method, job.say)
    if recipe.graph:
        outcomes["graph"] = graphed.graph_network(method, images, recipe, job.precision, world, job.say)
    if line := accumulate.differences(method, images, world.size, recipe.accumulate):
        job.say(line)
    model = DistributedDataParallel(method, find_unused_parameters=True) if world.size > 1 else method
    return ActivePhase(feed, model, starts[number] if phase.reset else 0, outcomes)


def resume(state: TrainState, job: Job) -> None:
    """Load the folder's checkpoint into `state` where there is one of the same job."""
    if not job.folder.checkpoint.exists():
        return
    saved = checkpoint.load(job.folder.checkpoint)
    if differing := [name for name, value in job.place.items() if saved["place"].get(name) != value]:
        job.say(f"the checkpoint here was made under another {', '.join(differing)}; starting over")
        return
    if not job.world.gather(job.world.first and weights_are_sound(job.folder, saved["state"].get("weights", "")))[0]:
        job.say("the stored weights of the best epoch are missing or damaged (SHA-256 differs); starting over")
        return
    state.load(saved["state"])
    job.say(f"resuming after epoch {state.epoch} of {job.recipe.epochs}")


def save(state: TrainState, job: Job) -> None:
    """Write log and checkpoint; weights of a better epoch replace the earlier ones once the checkpoint names them."""
    training_log.write(job.folder.log, state.log)
    checkpoint.save(job.folder.checkpoint, {"place": job.place, "state": state.state_dict()})
    if job.folder.next_weights.exists():
        os.replace(job.folder.next_weights, job.folder.weights)


def weights_are_sound(folder: RunFolder, expected: str) -> bool:
    """Whether the stored weights of the best epoch are those that a checkpoint belongs to.

    A kill between the checkpoint and the weights' last rename left these under their first name: it is made up for.

    Args:
        expected: their SHA-256, "" where the checkpoint needs none.
    """
    following, weights = folder.next_weights, folder.weights
    if expected and following.is_file() and manifest.digest(following) == expected:
        os.replace(following, weights)
    return not expected or (weights.is_file() and manifest.digest(weights) == expected)


def check_batches(phases: list, recipe: Recipe, images: int, world: World) -> None:
    """Raise InputError when the processes cannot share a phase's batches equally, or a share has fewer images than
    micro-batches. images: in training."""
    for phase in phases:
        size = min(batch_of(phase, recipe), recipe.samples or images)
        if size % world.size:
            raise InputError(f"{world.size} processes cannot share batches of {size} images equally; set recipe.batch.")
        if (share := size // world.size) < recipe.accumulate:
            raise InputError(
                f"recipe.accumulate is {recipe.accumulate}, but a process has {share} image{'s' * (share > 1)} per "
                f"update; set it to at most {share}, or raise recipe.batch."
            )


def batch_of(phase, recipe: Recipe) -> int:
    """Images per update in a phase, over all processes."""
    return max(1, round(recipe.batch * phase.batch_scale))


def choose_kernels(deterministic: bool) -> None:
    """Ask torch for bit-reproducible kernels (an op that has none warns instead of stopping the run), or for the
    fastest: cuDNN then tries all that it has for a shape, once, and sums may be added in an open order."""
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # torch would fill all new memory with NaN, so that reading it unwritten shows: 2 to 10 % of a step on a CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def not_deterministic(method, recipe: Recipe, device: torch.device) -> dict[str, str]:
    """{"deterministic": why} where the recipe asks for the same bits in every run and the method has no such kernels on
    the device; {} elsewhere."""
    if not recipe.deterministic or device.type != "cuda":
        return {}
    why = OPEN_ORDER.get(method.representation.name)
    return {"deterministic": f"not with instances={method.representation.name}: {why}"} if why else {}


def _progress(state: TrainState, epochs: int) -> str:
    line, done, seconds = state.log[-1], state.epoch, state.seconds
    left = seconds / done * (epochs - done)
    value = line.get("val_bPQ")
    bpq = f", validation bPQ {_worded(value)}" if "val_bPQ" in line else ""
    if of_sets := line.get("val_bPQ_of"):
        bpq += f" (mean of {', '.join(f'{name} {_worded(score)}' for name, score in of_sets.items())})"
    return f"epoch {done}/{epochs}: loss {line['loss']:.4f}{bpq}, {seconds:.0f} s, about {left:.0f} s left"


def _worded(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4f}"
