"""Time of matching and of all metrics as multiples of one np.bincount joint histogram, beside other packages.

    OMP_NUM_THREADS=1 python perf/metrics_speed.py [--maps FILE.npz ...] [--rounds 15]

Without --maps, the reference inputs are used where they are present (../shared/golden/metrics/speed), else seeded
discs are drawn. A file holds gt_inst, gt_type, pred_inst, pred_type. All works take turns within one process; the
least processor time of each counts, so that other load on the machine weighs on all alike. cellpose.metrics,
stardist.matching and torchmetrics stand beside them when they can be imported.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.metrics import evaluate
from benchmark.metrics.detection import Points, assign
from benchmark.metrics.match import match, overlaps
from benchmark.metrics.overlap import aji_plus
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_size

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "golden" / "metrics" / "speed"
CLASSES = ["1", "2", "3", "4", "5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    paths = sorted(REFERENCE.glob("input_*.npz")) if options.maps is None else options.maps
    cases = {path.stem: load(path) for path in paths}
    for side, n in ((256, 30), (256, 150), (1000, 1500)) if not cases else ():
        cases[f"{side} px, {n} nuclei"] = draw(side, n)
    for name, maps in cases.items():
        report(name, maps, options.rounds)


def report(name: str, maps: tuple, rounds: int) -> None:
    """Print one case: milliseconds per image pair and multiples of the joint histogram."""
    true, _, pred, _ = maps
    width = int(pred.max()) + 1

    def histogram():
        key = true.ravel().astype(np.int64) * width + pred.ravel()
        return np.bincount(key, minlength=(int(true.max()) + 1) * width)

    set_size = 50 if true.size < 10**6 else 5  # metrics run on sets of images: their share of one is counted
    matches = [match(*maps, mpp=0.25, shapes=False)] * set_size
    meta = [{"image": i, "tissue": "a"} for i in range(set_size)]

    def metrics(names):
        records = Records.collect(matches, meta)
        for protocol in names:
            PROTOCOLS[protocol].summary(records, CLASSES, ["a"])
        aji_plus(records)
        by_size(records)

    centroids = [
        Points(np.zeros(len(side), np.int64), np.column_stack([side.x, side.y]), side.type)
        for side in (matches[0].true, matches[0].pred)
    ]

    def alone(protocol):
        scored = evaluate([maps[:2]], [maps[2:]], protocol, mpp=0.25)
        return scored.summary, scored.images  # both are computed when they are asked for

    works: dict[str, tuple[Callable, int]] = {
        "joint histogram (np.bincount)": (histogram, 1),
        "overlaps: the match's histogram, areas, ids": (lambda: overlaps(*maps), 1),
        "match: with centroids, borders, outlines, contacts": (lambda: match(*maps, mpp=0.25, shapes=False), 1),
        "match with shape descriptors": (lambda: match(*maps, mpp=0.25), 1),
        "records, AJI+, sizes, protocol clean": (lambda: metrics(["clean"]), set_size),
        "records, AJI+, sizes, protocol cellvit": (lambda: metrics(["cellvit"]), set_size),
        "of it the published pairing of all centroids": (lambda: assign(*centroids, 1), 1),
        "records, AJI+, sizes, all protocols": (lambda: metrics(PROTOCOLS), set_size),
        "metrics.evaluate of one image alone, protocol cellvit": (lambda: alone("cellvit"), 1),
        "metrics.evaluate of one image alone, all protocols": (lambda: alone("all"), 1),
        **{label: (work, 1) for label, work in peers(true, pred).items()},
    }
    best = least(works, rounds)
    base = best["joint histogram (np.bincount)"]
    whole = best["match: with centroids, borders, outlines, contacts"]
    best["ALL METRICS of one pair, protocol clean"] = whole + best["records, AJI+, sizes, protocol clean"]
    best["ALL METRICS of one pair, protocol cellvit"] = whole + best["records, AJI+, sizes, protocol cellvit"]
    best["ALL METRICS of one pair, all protocols"] = whole + best["records, AJI+, sizes, all protocols"]
    shapes = best.pop("match with shape descriptors") - whole
    best["shape descriptors of both sides (extra)"] = shapes
    print(f"{name}: {true.shape[0]} x {true.shape[1]} px, {len(np.unique(true)) - 1} true nuclei")
    for label, seconds in best.items():
        print(f"  {seconds * 1e3:9.3f} ms  {seconds / base:7.1f} x  {label}")


def peers(true: np.ndarray, pred: np.ndarray) -> dict[str, Callable]:
    """Calls of other installed packages for part of this: PQ or AP at one threshold, AJI, PQ."""
    works = {}
    try:
        from cellpose.metrics import aggregated_jaccard_index, average_precision
    except ImportError as error:
        print(f"cellpose is left out ({error})")
    else:
        works["cellpose.metrics.average_precision, one threshold"] = lambda: average_precision([true], [pred], [0.5])
        works["cellpose.metrics.aggregated_jaccard_index"] = lambda: aggregated_jaccard_index([true], [pred])
    try:
        from stardist.matching import matching
    except ImportError as error:
        print(f"stardist is left out ({error})")
    else:
        works["stardist.matching, one threshold"] = lambda: matching(true, pred, thresh=0.5)
    try:
        import torch
        from torchmetrics.functional.detection import panoptic_quality
    except ImportError as error:
        print(f"torchmetrics is left out ({error})")
    else:
        both = [torch.from_numpy(np.stack([m > 0, m], -1)[None].astype(np.int64)) for m in (pred, true)]
        if true.size < 10**6:  # minutes beyond that
            works["torchmetrics panoptic_quality"] = lambda: panoptic_quality(*both, things={1}, stuffs={0})
    return works


def least(works: dict[str, tuple[Callable, int]], rounds: int) -> dict[str, float]:
    """Least processor seconds of each work per unit; the works take turns."""
    times = {label: [] for label in works}
    for work, _ in works.values():
        work()
    for _ in range(rounds):
        for label, (work, units) in works.items():
            began = time.process_time()
            work()
            times[label].append((time.process_time() - began) / units)
            if sum(times[label]) > 20:
                return {k: min(v) for k, v in times.items() if v}
    return {label: min(values) for label, values in times.items()}


def load(path: Path) -> tuple:
    with np.load(path, allow_pickle=False) as stored:
        return tuple(stored[k] for k in ("gt_inst", "gt_type", "pred_inst", "pred_type"))


def draw(side: int, n: int, seed: int = 0) -> tuple:
    """Discs of 3 to 7 px radius, and the same moved by up to 2 px."""
    rng = np.random.default_rng(seed)
    centre, radius, shift = rng.uniform(0, side, (n, 2)), rng.uniform(3, 7, n), rng.uniform(-2, 2, (n, 2))
    types = np.concatenate([[0], rng.integers(1, 6, n)]).astype(np.uint8)
    maps = []
    for at in (centre, centre + shift):
        labels = np.zeros((side, side), np.int32)
        for k in range(n):
            top, left = np.maximum(at[k].astype(int) - 8, 0)
            window = labels[top : top + 17, left : left + 17]
            y, x = np.indices(window.shape)
            window[(y + top - at[k, 0]) ** 2 + (x + left - at[k, 1]) ** 2 <= radius[k] ** 2] = k + 1
        maps += [labels, types[labels]]
    return tuple(maps)


if __name__ == "__main__":
    main()
