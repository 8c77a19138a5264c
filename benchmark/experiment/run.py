"""One cell from start to finish: data, weights, training, test, records, and metrics.json last of all."""

import contextlib
import os
import socket
import sys
import traceback

import filelock
import numpy as np
import torch

from benchmark.data.store.prepare import prepare
from benchmark.evaluation import test_set
from benchmark.experiment.cell import Cell
from benchmark.experiment.cost import gflops, op_backend, peak_memory, trainable
from benchmark.experiment.encoder_weights import file_mark
from benchmark.methods import registry
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.results import predictions, provenance, raw_maps, run_folder
from benchmark.results.run_folder import CHECKPOINT, FAILED, METRICS, OWNER
from benchmark.runtime import distributed, memory
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic, read_json, write_json
from benchmark.runtime.precision import precision_on
from benchmark.runtime.progress import Progress
from benchmark.training import checkpoint, loop
from benchmark.training.pretrain import ensure_apart


def run(cell: Cell, world, say=None, keep_maps: bool = False) -> dict:
    """Run a cell, or return its stored metrics when it is done.

    A stale result is replaced; a failed or partial one is taken up where it stands.

    Args:
        keep_maps: store the raw maps of the test fold too; a done cell without them predicts once more.

    Raises:
        InputError: bad input, gated weights absent, or another live process holds the cell.
    """
    if not world.first:
        say = lambda text: None  # noqa: E731
    say = say or (lambda text: print(f"[{cell.run}] {text}", file=sys.stderr, flush=True))
    told = provenance.COMMAND in os.environ  # the grid has prepared the data and said what there is to know
    data = prepare(
        cell.setup.source, cell.setup.cache, split=cell.fold, progress=world.first and not told, verify=world.first
    )
    if not world.first:
        state = world.gather(None)[0]
        if state == "done":
            return {}
        return _maps(cell, data, world) if state == "maps" else _run(cell, data, world, say, keep_maps)
    state, why = cell.state()
    if state == "skipped":
        raise InputError(f"{cell.run} cannot run here: {why}.")
    lock = cell.lock()
    try:
        lock.acquire(timeout=2)  # a look at the state by another process holds it for a moment
    except filelock.Timeout as error:
        raise InputError(f"{cell.run} is running already ({cell.state()[1]}); wait for it or stop it.") from error
    with lock:
        lock.release()  # the context holds it once more
        state, why = cell.state(locked=True)  # another process may have finished it meanwhile
        for leftover in cell.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        if state == "done" and keep_maps and not any(cell.folder.glob(raw_maps.PATTERN)):
            state = "maps"
        world.gather(state)
        if state == "maps":
            say("done already; predicting once more for its maps")
            _maps(cell, data, world)
            return read_json(cell.folder / METRICS)
        if state == "done":
            (cell.folder / CHECKPOINT).unlink(missing_ok=True)
            say("already done")
            return read_json(cell.folder / METRICS)
        if state == "stale":
            say(f"stale, running anew: {why}")
        with atomic(cell.folder / OWNER, "w") as handle:
            handle.write(f"{socket.gethostname()} pid {os.getpid()}\n")
        for leftover in (METRICS, FAILED):
            (cell.folder / leftover).unlink(missing_ok=True)
        try:
            return _run(cell, data, world, say, keep_maps)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            with atomic(cell.folder / FAILED, "w") as handle:
                handle.write(f"{error}\n" if isinstance(error, InputError) else traceback.format_exc())
            raise
        finally:
            (cell.folder / OWNER).unlink(missing_ok=True)


def _run(cell: Cell, data, world, say, keep_maps: bool) -> dict:
    setup, folder, recipe = cell.setup, cell.folder, cell.recipe
    cls = registry.method_class(cell.spec.name)
    weights, label = cell.weights
    mark = label
    pretraining = 0.0
    if weights == "pretext":
        made = ensure_apart(cls.backbone_of(cell.spec.arguments), setup.cache, recipe["pretrain"])
        weights, pretraining, mark = str(made.path), made.seconds, file_mark(made.path)

    torch.manual_seed(cell.seed)
    extra = {"weights": weights} if weights and cls.trainable else {}
    method = registry.build(cell.spec, *cell.heads(data), **extra)
    story = provenance.describe(
        cell.seed, str(world.device), op_backend(method, world.device), data.fingerprint(cell.fold)
    )
    if world.first:
        write_json(folder / "config.json", describe(cell, data, label, mark))
    encoder = f", backbone weights: {label}" if type(method).encoder_of(cell.spec.arguments) else ""
    say(f"{sum(p.numel() for p in method.parameters()):,} parameters{encoder}")
    precision = precision_on(recipe["precision"], world.device)
    if recipe["precision"] not in ("auto", precision):
        say(f"recipe.precision={recipe['precision']} is for GPUs; {world.device.type} computes in {precision}")

    if cell.trains:
        trained = loop.train(
            method,
            data,
            cell.fold,
            cell.seed,
            recipe,
            folder,
            world,
            key=cell.key,
            pretrained=mark,
            published=setup.config.kind == "published",
            say=say,
        )
        checkpoint.load_weights(folder / run_folder.WEIGHTS, method)
    else:
        cell.fill(method)
        trained = loop.Trained(-1, None, 0.0, 0)
    method.to(world.device)

    subset = data.subset(cell.fold, "test")
    show = Progress("test:", "images", world.first, end=False)
    show(0, len(subset))
    with raw_maps.writing(folder, world.rank) if keep_maps else contextlib.nullcontext() as put:
        share = test_set.evaluate(method, subset, recipe, world, keep=True, progress=show, put=put)
    shares = world.gather(share)
    peak, kind = peak_memory(world)
    if not world.first:
        world.barrier()
        return {}
    found = test_set.collect(shares, subset, has_types=method.has_types and bool(cell.heads(data)[0]))
    raw_maps.drop(folder, world.size if keep_maps else 0)
    found.records.save(folder)
    predictions.write(folder / "predictions.npz", found.predictions)
    phases = method.phases(setup.config.kind == "published")
    write_json(
        folder / "cost.json",
        {
            "params": sum(p.numel() for p in method.parameters()),
            "trainable": trainable(method, phases),
            "gflops": gflops(cell, data, subset[0].image.shape[:2], say),
            "train_seconds": round(trained.seconds, 2),
            "epochs": trained.epochs,
            # forward and decoding together: the classical baseline has all its work in the decoding
            "images_per_second": round(
                world.size * found.images / max(found.forward_seconds + found.decode_seconds, 1e-9), 3
            ),
            "forward_ms": round(1000 * found.forward_seconds / max(1, found.images), 3),
            "decode_ms": round(1000 * found.decode_seconds / max(1, found.images), 3),
            "peak_memory_bytes": peak,
            "peak_memory_kind": kind,
            "pretrain_seconds": round(pretraining, 2),
            "precision": precision,
            "processes": world.size,
        },
    )
    write_json(folder / "provenance.json", story | {"finished": provenance.now()})
    metrics = {
        "key": cell.key,
        "identity": cell.parts(),
        "protocols": {
            name: {"version": p.version} | p.summary(found.records, list(data.classes), list(data.tissues))
            for name, p in PROTOCOLS.items()
        },
        "n_images": found.images,
        "n_untyped": int((~np.asarray(subset.typed)).sum()),
        "best_epoch": trained.best_epoch,
        "val_bPQ": trained.best_bpq,
        "ceiling": test_set.ceiling(method, subset, len(data.classes), recipe["tiling"]) if cell.trains else None,
    }
    write_json(folder / METRICS, metrics)  # last: its presence means that the run is complete
    (folder / CHECKPOINT).unlink(missing_ok=True)
    bpq = metrics["protocols"][setup.config.protocol]["bPQ"]
    say(f"test bPQ {bpq:.4f} ({setup.config.protocol} protocol), training {trained.seconds:.0f} s -> {folder}")
    world.barrier()
    return read_json(folder / METRICS)


def _maps(cell: Cell, data, world) -> dict:
    """Predict the test fold with the stored weights and store the raw maps."""
    method = registry.build(cell.spec, len(data.classes), len(data.tissues))
    if type(method).trainable:
        checkpoint.load_weights(cell.folder / run_folder.WEIGHTS, method)
    method.to(world.device)
    subset = data.subset(cell.fold, "test")
    show = Progress("maps:", "images", world.first, end=False)
    show(0, len(subset))
    with raw_maps.writing(cell.folder, world.rank) as put:
        test_set.evaluate(method, subset, cell.recipe, world, progress=show, put=put)
    world.barrier()
    return {}


def describe(cell: Cell, data, label: str, mark: str) -> dict:
    """The contents of config.json."""
    cls, arguments = registry.method_class(cell.spec.name), cell.spec.arguments
    # an encoder that is no ViT is named where it was given weights
    encoder = cls.backbone_of(arguments) or (cls.encoder_of(arguments) if cell.weights[0] else None)
    return {
        "key": cell.key,
        "dataset": cell.setup.label,
        "method": str(cell.spec),
        "name": cell.spec.name,
        "row": cell.spec.row,
        "arguments": cell.spec.arguments,
        "fold": cell.fold,
        "seed": cell.seed,
        "kind": cell.setup.config.kind,
        "experiment": cell.setup.experiment,
        "classes": list(data.classes),
        "tissues": list(data.tissues),
        "mpp": data.mpp,
        "recipe": cell.recipe if cls.trainable else {},
        "backbone": {"name": encoder, "weights": label, "file": mark},
    } | cell.told()


def main(cell: Cell, keep_maps: bool = False) -> dict:
    """Run a cell in this process, alone or as one of torchrun's."""
    world = distributed.start(cell.setup.device)
    if world.device.type == "cpu":
        memory.keep_freed()
    else:
        torch.cuda.reset_peak_memory_stats(world.device)
    try:
        return run(cell, world, keep_maps=keep_maps)
    finally:
        distributed.stop(world)
