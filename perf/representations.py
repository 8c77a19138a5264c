"""Time of targets and decoding of each instance representation, beside the makers' packages where they are installed.

    OMP_NUM_THREADS=1 python perf/representations.py [--out FOLDER]

Seconds are of processor time on one core, the least of several calls, on drawn discs; both sides have the same maps.
`stardist` and `cellpose` are no dependencies: `pip install --no-deps stardist csbdeep cellpose` into another
environment, with what they import.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.representations.base import Representation
from benchmark.representations.named import REPRESENTATIONS, representation
from benchmark.runtime.files import atomic

CASES = ((256, 60), (1000, 1500))  # side in pixels, nuclei
COLUMNS = "side,nuclei,representation,what,ours_ms,package,package_ms,ratio"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for speed.csv (default: print only)")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: the packages would use all cores.")
    lines = [COLUMNS]
    for side, n in CASES:
        truth = draw(side, n)
        for name in sorted(REPRESENTATIONS.keys() - {"cpp"}, key=list(REPRESENTATIONS).index):  # its are StarDist's
            way = representation(name)
            maps = with_noise(way.ideal(way.targets(truth), 0))
            ours = {"targets": partial(way.targets, truth), "decode": partial(way.decode, maps, truth.mpp)}
            theirs = peers(way, truth, maps)
            for what, work in ours.items():
                took = 1e3 * seconds(work)
                line = f"{side},{len(truth)},{name},{what},{took:.1f}"
                if what in theirs:
                    other = 1e3 * seconds(theirs[what][1])
                    line += f",{theirs[what][0]},{other:.1f},{took / other:.2f}"
                else:
                    line += ",,,"
                lines.append(line)
                print(line, flush=True)
    if options.out:
        with atomic(options.out / "speed.csv", "w") as handle:
            handle.write("\n".join(lines) + "\n")


def peers(way: Representation, truth: Nuclei, maps: dict[str, np.ndarray]) -> dict[str, tuple[str, Callable]]:
    """what -> (package, the same work by it); empty where the package is not installed."""
    labels = truth.instances
    if way.name == "stardist":
        try:
            from stardist import __version__ as version
            from stardist.geometry import polygons_to_label, star_dist
            from stardist.nms import non_maximum_suppression
            from stardist.utils import edt_prob
        except ImportError:
            return {}
        prob = 1 / (1 + np.exp(-maps["prob"][0]))
        dist = np.maximum(np.ascontiguousarray(np.moveaxis(maps["dist"], 0, -1)), 1e-3)

        def decode():
            points, scores, lengths = non_maximum_suppression(dist, prob, nms_thresh=0.4, prob_thresh=0.5)
            return polygons_to_label(lengths, points, prob.shape, prob=scores)

        package = f"stardist {version}"
        return {"targets": (package, lambda: (star_dist(labels, 32), edt_prob(labels))), "decode": (package, decode)}
    if way.name == "flows":
        try:
            import torch
            from cellpose import dynamics, version
        except ImportError:
            return {}
        torch.set_num_threads(1)
        flow, cellprob, package = maps["flow"], maps["cellprob"][0], f"cellpose {version}"
        return {
            "targets": (package, lambda: dynamics.masks_to_flows_gpu(labels.astype(int))),
            "decode": (package, lambda: dynamics.resize_and_compute_masks(flow, cellprob, niter=200, min_size=15)),
        }
    return {}


def with_noise(maps: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """Noise of a hundredth of each map's largest value."""
    rng = np.random.default_rng(seed)
    return {
        k: (v + rng.normal(0, 0.01 * np.abs(v).max(initial=0), v.shape)).astype(np.float32) for k, v in maps.items()
    }


def draw(side: int, n: int, seed: int = 0) -> Nuclei:
    """Ellipses of 5 to 10 px radius, later over earlier."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    places = zip(rng.uniform(0, side, (n, 2)), rng.uniform(5, 10, n), rng.uniform(0.75, 1.3, n))
    for k, ((y, x), radius, stretch) in enumerate(places, 1):
        top, left = max(int(y) - 15, 0), max(int(x) - 15, 0)
        window = labels[top : top + 31, left : left + 31]
        rows, columns = np.indices(window.shape)
        window[((rows + top - y) * stretch) ** 2 + ((columns + left - x) / stretch) ** 2 < radius**2] = k
    return Nuclei.from_labels(labels, None, 0.25)


def seconds(work: Callable, repeats: int = 3) -> float:
    """Least processor time of `work`."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    main()
