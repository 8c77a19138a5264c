"""Time of the HV post-processing of one image, and of its parts, beside a mask per instance; one thread.

    OMP_NUM_THREADS=1 python perf/postproc_speed.py [--maps FILE.npz ...]

Without --maps, the reference inputs are used where they are present (../shared/golden/metrics/speed), else seeded
discs with noisy maps are drawn. A file holds prob_q256, h_q256, v_q256 (divided by 256: the
probability and the distance maps) and type_map. The baseline is the plain way, as published decoders go: for each
instance a mask of the whole image, its box, its centre of mass and its most frequent type; their tracing of contours is
left out. Seconds are of processor time, the least of several calls.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmark.postproc.hv import decode_hv, hv_targets, measure, vote, watershed
from benchmark.postproc.instances import renumber

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "golden" / "metrics" / "speed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="*", type=Path)
    options = parser.parse_args()
    paths = sorted(REFERENCE.glob("input_*.npz")) if options.maps is None else options.maps
    cases = {path.stem: load(path) for path in paths}
    for side, n in ((256, 30), (256, 150), (1000, 1500)) if not cases else ():
        cases[f"{side} px, {n} nuclei drawn"] = draw(side, n)
    for name, maps in cases.items():
        report(name, *maps)


def report(name: str, prob: np.ndarray, hv: np.ndarray, types: np.ndarray) -> None:
    raw = watershed(prob, hv)

    def after():
        instances, n = renumber(raw)
        return (*vote(instances, types, n), measure(instances, n))

    few = 3 if prob.size > 10**5 else 12
    flood = seconds(lambda: watershed(prob, hv), few)
    ours, plain = seconds(after), seconds(lambda: per_mask(raw, types), few)
    check(after(), per_mask(raw, types))
    print(f"{name}: {len(np.unique(raw)) - 1} instances found")
    print(f"  watershed chain          {flood * 1e3:9.2f} ms")
    print(f"  after it, ours           {ours * 1e3:9.2f} ms")
    print(f"  after it, mask each      {plain * 1e3:9.2f} ms   = {plain / ours:.1f} x ours")
    whole = seconds(lambda: measure(*_counted(decode_hv(prob, hv, types))), few)
    print(f"  whole, ours              {whole * 1e3:9.2f} ms   the watershed chain is {flood / whole:.0%} of it")
    print(f"  whole, mask each         {(flood + plain) * 1e3:9.2f} ms   = {(flood + plain) / whole:.1f} x ours")


def _counted(nuclei) -> tuple[np.ndarray, int]:
    return nuclei.instances, len(nuclei)


def per_mask(raw: np.ndarray, types: np.ndarray) -> list[tuple]:
    """(type, share, centroid, box) of each instance, each from a mask of the whole image."""
    out = []
    for k in np.unique(raw)[1:]:
        mask = raw == k
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        window = (slice(box[0], box[2]), slice(box[1], box[3]))
        inside = mask[window]
        y, x = np.nonzero(inside)
        values, counts = np.unique(types[window][inside], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        first = order[1] if values[order[0]] == 0 and len(order) > 1 else order[0]
        share = counts[first] / (inside.sum() + 1e-6)
        out.append((values[first], share, (x.mean() + box[1], y.mean() + box[0]), box))
    return out


def check(ours: tuple, plain: list[tuple]) -> None:
    """Raises AssertionError where the two ways disagree."""
    types, shares, shapes = ours
    assert types.tolist() == [row[0] for row in plain]
    np.testing.assert_allclose(shares, [row[1] for row in plain], rtol=1e-6)
    np.testing.assert_allclose(shapes.centroid, [row[2] for row in plain])
    assert np.array_equal(shapes.box, [row[3] for row in plain])


def seconds(work, repeats: int = 20) -> float:
    """Least processor time of `work`."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def load(path: Path) -> tuple:
    with np.load(path, allow_pickle=False) as stored:
        hv = np.stack([stored["h_q256"], stored["v_q256"]]).astype(np.float32) / 256
        return stored["prob_q256"].astype(np.float32) / 256, hv, stored["type_map"]


def draw(side: int, n: int, seed: int = 0) -> tuple:
    """Discs of 4 to 8 px radius, their distance maps blurred and with noise, and a type each."""
    rng = np.random.default_rng(seed)
    centre, radius = rng.uniform(0, side, (n, 2)), rng.uniform(4, 8, n)
    labels = np.zeros((side, side), np.int32)
    for k in range(n):
        top, left = np.maximum(centre[k].astype(int) - 9, 0)
        window = labels[top : top + 19, left : left + 19]
        y, x = np.indices(window.shape)
        window[(y + top - centre[k, 0]) ** 2 + (x + left - centre[k, 1]) ** 2 <= radius[k] ** 2] = k + 1
    hv = ndimage.gaussian_filter(hv_targets(labels), (0, 0.7, 0.7)) + rng.normal(0, 0.05, (2, side, side))
    prob = ndimage.gaussian_filter((labels > 0).astype(np.float32), 0.7) + rng.normal(0, 0.05, (side, side))
    types = np.concatenate([[0], rng.integers(1, 6, n)]).astype(np.uint8)[labels]
    return prob.clip(0, 1).astype(np.float32), hv.astype(np.float32), types


if __name__ == "__main__":
    main()
