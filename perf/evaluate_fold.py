"""A published-size PanNuke fold (2722 images of 256 x 256 px) from stored raw maps to the tables: time and memory.

    OMP_NUM_THREADS=1 python perf/evaluate_fold.py [--images 2722] [--processes 2]

Drawn nuclei with noisy maps, stored as KEEP_MAPS=1 does; `--distinct` images are repeated. Reading, decoding, matching,
the records, every protocol and the size table are timed; drawing and storing are not. Beside the wall clock the seconds
of processor time of all processes are printed: on a machine that others use, those are the measure.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import decode_grid
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.postproc.hv import HVSettings, hv_targets
from benchmark.report.tables.foreign import tables
from benchmark.representations.hv import HV
from benchmark.results.raw_maps import StoredMaps, writing
from benchmark.results.run_folder import RunFolder

SIDE, CLASSES = 256, ["Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial"]
TISSUES = [f"tissue {k}" for k in range(19)]


class RepeatedMaps(StoredMaps):
    """`images` images, of which image i has the stored maps i modulo the distinct ones."""

    def __init__(self, folder: RunFolder, images: int):
        super().__init__(folder)
        self.distinct, self.images = len(self.images), list(range(images))

    def read(self, image: int) -> dict[str, np.ndarray]:
        return super().read(image % self.distinct)


class RepeatedTruths:
    """True nuclei by image, repeated like the maps, with tissues in turn."""

    def __init__(self, nuclei: list[Nuclei]):
        self.nuclei = nuclei

    def __getitem__(self, i: int) -> Nuclei:
        one = self.nuclei[i % len(self.nuclei)]
        return Nuclei(one.instances, one.types, one.mpp, tissue=TISSUES[i % len(TISSUES)], image_id=str(i))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2722)
    parser.add_argument("--distinct", type=int, default=32)
    parser.add_argument("--nuclei", type=int, default=70, help="nuclei per image; PanNuke has 24 on average")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, truths = RunFolder(Path(temporary)), []
        with writing(folder) as put:
            for k in range(options.distinct):
                truth, maps = draw(np.random.default_rng(k), options.nuclei)
                truths.append(truth)
                put(k, maps)
        size = sum(path.stat().st_size for path in folder.all_raw_maps) / options.distinct
        report(RepeatedMaps(folder, options.images), RepeatedTruths(truths), options.processes, size)


def report(maps: StoredMaps, truths, processes: int, size: float) -> None:
    began, cpu = time.perf_counter(), processor()
    (records,) = decode_grid.decode(maps, truths, [HVSettings.cellvit40()], HV(), workers=processes)
    decoded, decoded_cpu = time.perf_counter() - began, processor() - cpu
    values = {name: protocol.summary(records, CLASSES, TISSUES) for name, protocol in PROTOCOLS.items()}
    tables(values, records, CLASSES, TISSUES)
    wall, spent = time.perf_counter() - began, processor() - cpu
    own, largest = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    n = len(maps.images)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{n} images, {processes} processes on {cores} cores, {size / 2**20:.2f} MiB of maps an image")
    each, most = 1e3 * decoded_cpu / n, own + processes * largest
    print(f"  maps to records     {decoded:7.1f} s wall, {decoded_cpu:7.1f} s processor, {each:.1f} ms an image")
    print(f"  all, with tables    {wall:7.1f} s wall, {spent:7.1f} s processor = {spent / processes:.1f} s a process")
    print(f"  memory at most      {own:7.0f} MiB main + {processes} x {largest:.0f} MiB = {most:.0f} MiB")
    print(f"  bPQ of the drawn maps (cellvit protocol): {values['cellvit']['bPQ']:.3f}")


def processor() -> float:
    """Seconds of processor time of this process and its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def draw(rng: np.random.Generator, n: int) -> tuple[Nuclei, dict[str, np.ndarray]]:
    """An image's nuclei (discs of 5 to 10 px radius) and noisy raw maps of them."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    y, x = np.indices(labels.shape)
    for k, (row, column, radius) in enumerate(zip(*rng.uniform(0, SIDE, (2, n)), rng.uniform(5, 10, n))):
        labels[((y - row) ** 2 + (x - column) ** 2 <= radius**2) & (labels == 0)] = k + 1
    truth = Nuclei.from_labels(labels, None, 0.25)
    truth = Nuclei(truth.instances, rng.integers(1, 6, len(truth)).astype(np.uint8), 0.25)

    def logits(target: np.ndarray, classes: int) -> np.ndarray:
        clear = np.where(np.arange(classes)[:, None, None] == target, 3.0, -3.0)
        return ndimage.gaussian_filter(clear, (0, 1, 1)) + rng.normal(0, 0.5, clear.shape)

    hv = ndimage.gaussian_filter(hv_targets(truth.instances), (0, 0.7, 0.7))
    return truth, {
        "np": logits(truth.instances > 0, 2),
        "hv": hv + rng.normal(0, 0.05, hv.shape),
        "tp": logits(truth.pixel_types(), 6),
    }


if __name__ == "__main__":
    main()
