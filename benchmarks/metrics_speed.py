"""Time of the match and of all metrics, as multiples of one np.bincount joint histogram in the same run.

    OMP_NUM_THREADS=1 python benchmarks/metrics_speed.py [--maps FILE.npz ...]

Without --maps, seeded discs are drawn. A file holds gt_inst, gt_type, pred_inst, pred_type.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from benchmark.metrics.match import match
from benchmark.metrics.overlap import aji_plus
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_size

SET = 50  # images per set: metrics run on sets, so their cost per image is that of a set divided by its size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="*", type=Path, default=[])
    cases = {path.stem: load(path) for path in parser.parse_args().maps}
    for side, n in ((256, 30), (256, 150), (1000, 1500)) if not cases else ():
        cases[f"{side} px, {n} nuclei"] = draw(side, n)
    for name, maps in cases.items():
        report(name, maps)


def report(name: str, maps: tuple) -> None:
    true, _, pred, _ = maps
    width = int(pred.max()) + 1

    def histogram():
        key = true.ravel().astype(np.int64) * width + pred.ravel()
        return np.bincount(key, minlength=(int(true.max()) + 1) * width)

    found = match(*maps, mpp=0.25)
    n = SET if true.size < 10**6 else 5
    meta = [{"image": i, "tissue": "a"} for i in range(n)]

    def everything():
        records = Records.collect([found] * n, meta)
        for protocol in PROTOCOLS.values():
            protocol.summary(records, ["1", "2", "3", "4", "5"], ["a"])
        aji_plus(records)
        by_size(records)

    base, once, rest = seconds(histogram), seconds(lambda: match(*maps, mpp=0.25)), seconds(everything, 5) / n
    print(f"{name}: joint histogram {base * 1e3:.3f} ms")
    for label, value in (("match", once), (f"match + all metrics, per image of {n}", once + rest)):
        print(f"  {label}: {value * 1e3:.3f} ms = {value / base:.1f} x")


def seconds(work, repeats: int = 30) -> float:
    """Median time of `work`."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


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
