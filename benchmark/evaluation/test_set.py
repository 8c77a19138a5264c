"""From images to records: predict, decode, match once; the pixels are not touched again after that."""

import collections
import concurrent.futures
import contextlib
import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import tiled
from benchmark.layers import image_ops
from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_size
from benchmark.results.predictions import Packed
from benchmark.runtime import precision
from benchmark.runtime.workers import pool, usable_cores

POOL_FROM = 200  # below this many images, starting worker processes costs more than it saves


@dataclass
class Evaluation:
    """What one pass over a subset gave. seconds are of the forward passes and of decoding alone."""

    records: Records
    predictions: list  # a predictions.Packed per image, None where they were not kept
    forward_seconds: float
    decode_seconds: float
    images: int


def evaluate(method, subset, recipe: dict, world, keep: bool = False, progress=None, put=None) -> tuple:
    """Predict and match this rank's share of `subset`.

    Args:
        world: a `runtime.distributed.World`.
        keep: return the predictions too.
        progress: called with (images done, images in all).
        put: called with (index, raw maps) of each image, as `results.raw_maps.writing` yields it.

    Returns:
        (list of (index, Match, predictions.Packed or None, decode seconds), forward seconds)
    """
    method.eval()
    indices = list(range(len(subset)))[world.rank :: world.size]
    name, tiling = precision.precision_on(recipe["precision"], world.device), tiled.of(method, recipe)
    workers = max(1, usable_cores() // world.local) if len(indices) >= POOL_FROM else 0
    forward_seconds, done = 0.0, []
    with _pool(workers) as submit:
        waiting = collections.deque()
        for start in range(0, len(indices), recipe["eval_batch"]):
            rows = indices[start : start + recipe["eval_batch"]]
            samples = [subset[i] for i in rows]
            images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2)
            began = time.perf_counter()
            with torch.inference_mode(), precision.autocast(name, world.device):
                outputs = tiled.predict(method, image_ops.to_float(images.to(world.device)), tiling)
            outputs = {k: v.float().cpu().numpy() for k, v in outputs.items()}
            forward_seconds += time.perf_counter() - began
            for j, (i, sample) in enumerate(zip(rows, samples)):
                maps = {k: v[j] for k, v in outputs.items()}
                if put:
                    put(i, maps)
                waiting.append((i, submit(decode_and_match, type(method), maps, sample.nuclei, keep, tiling)))
            while len(waiting) > 4 * max(1, workers) * recipe["eval_batch"]:
                i, future = waiting.popleft()
                done.append((i, *future.result()))
            if progress:
                progress(len(done) + len(waiting), len(indices))
        done += [(i, *future.result()) for i, future in waiting]
    return done, forward_seconds


def collect(shares: list[tuple], subset, has_types: bool) -> Evaluation:
    """Join the shares of all ranks in the order of the subset."""
    rows = sorted((row for share, _ in shares for row in share), key=lambda row: row[0])
    meta = []
    for i, _, _, _ in rows:
        nuclei = subset[i].nuclei
        meta.append(
            {
                "image": i,
                "image_id": nuclei.image_id,
                "tissue": nuclei.tissue,
                "source": nuclei.source,
                "typed": nuclei.typed,
                "pred_typed": has_types,
            }
        )
    return Evaluation(
        records=Records.collect([m for _, m, _, _ in rows], meta),
        predictions=[p for _, _, p, _ in rows],
        forward_seconds=sum(s for _, s in shares),
        decode_seconds=sum(s for *_, s in rows),
        images=len(rows),
    )


def decode_and_match(cls, maps: dict[str, np.ndarray], truth: Nuclei, keep: bool, tiling: str = "none"):
    """(Match, Packed or None, seconds of decoding) of one image; may run in a worker process."""
    began = time.perf_counter()
    predicted = tiled.decode(cls, maps, truth.mpp, tiling)
    seconds = time.perf_counter() - began
    true_types = truth.type_map if truth.type_map is not None else truth.types
    found = match(truth.instances, true_types, predicted.instances, predicted.types, mpp=truth.mpp)
    return found, Packed.of(predicted) if keep else None, seconds


def ceiling(method, subset, classes: int, tiling: str = "none") -> dict:
    """What the method's decoding would score if its network were perfect: decode(ideal(targets)) against the truth.

    Small and crowded nuclei are lost there before any network is to blame.

    Returns:
        {"bPQ": image mean (`cellvit` protocol), "sizes": rows of `metrics.sizes.by_size`}.
    """
    workers = usable_cores() if len(subset) >= POOL_FROM else 0
    matches, waiting = [], collections.deque()
    with _pool(workers) as submit:
        for i in range(len(subset)):
            waiting.append(submit(perfect, type(method), subset[i].nuclei, classes, tiling))
            if len(waiting) > 8 * max(1, workers):  # what waits for a worker stands in memory
                matches.append(waiting.popleft().result())
        matches += [future.result() for future in waiting]
    meta = [{"image": i, "image_id": "", "tissue": "", "source": "", "typed": False} for i in range(len(matches))]
    records = Records.collect(matches, [m | {"pred_typed": False} for m in meta])
    return {
        "bPQ": float(np.nanmean(PROTOCOLS["cellvit"].images(records, 0)["bPQ"])),
        "sizes": by_size(records).to_dict("records"),
    }


def perfect(cls, truth: Nuclei, classes: int, tiling: str = "none"):
    """Match of the truth with what decoding makes of its own targets; runs in a worker process."""
    decoded = tiled.decode(cls, tiled.ideal(cls, truth, classes, tiling), truth.mpp, tiling)
    return match(truth.instances, truth.types, decoded.instances, decoded.types, mpp=truth.mpp, shapes=False)


@contextlib.contextmanager
def _pool(workers: int):
    """Yields submit(function, *arguments) -> future; without workers the call happens at once, in this process."""
    if not workers:

        def now(function, *arguments):
            future = concurrent.futures.Future()
            future.set_result(function(*arguments))
            return future

        yield now
        return
    with pool(workers) as processes:
        yield processes.submit
