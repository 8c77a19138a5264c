"""Peak memory and time of predicting slides of growing size, main process and workers together.

    python perf/slide_memory.py [--sides 4000 8000] [--tissue 1] [--channels 10] [--workers 2] [--folder DIR]
        [--out FILE.csv]

A slide is drawn nuclei over and over, stored as the raw maps that a perfect network would give for them (in the
colours of its pixels): reading, tiling, HV decoding, joining and writing are those of any slide, and a network's own
share, which does not grow with the slide, is left out. With the ten channels of hv maps they are condensed as those
are; `--channels` adds maps that nothing looks at, and of which none is condensed, as many as other
representations have (stardist 39). Memory is the sum of the processes' proportional set sizes
(Linux), looked at twice a second.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TYPES = 5
LEAST_CHANNELS = 4 + TYPES + 1
BLOCK = 8  # patches a side that are drawn and repeated
TILE = 256


def coded(labels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): nucleus, horizontal and vertical distance of each pixel."""
    from benchmark.postproc.targets import hv_targets

    return np.stack([np.where(labels > 0, 255, 0), *np.rint((hv_targets(labels) + 1) * 127)], -1).astype(np.uint8)


def make(path: Path, side: int, share: float) -> None:
    """A tiled TIFF of side x side px with two coarser levels, written as a stream.

    Args:
        share: of its rows that hold tissue, the uppermost; glass follows.
    """
    import tifffile

    from benchmark.data.sources.synthetic import draw

    rows = []
    for i in range(BLOCK):
        labels = [draw("Colon", 3, BLOCK * i + j).nuclei.instances for j in range(BLOCK)]
        rows.append(np.concatenate([coded(one) for one in labels], 1))
    block = np.concatenate(rows)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(3):
            small = np.ascontiguousarray(block[:: 4**level, :: 4**level])
            length, period = side // 4**level, len(small)

            def tiles(small=small, length=length, period=period):
                for top in range(0, length, TILE):
                    for left in range(0, length, TILE):
                        where = [np.arange(start, start + TILE) % period for start in (top, left)]
                        tissue = top < share * length
                        yield small[np.ix_(*where)] if tissue else np.full((TILE, TILE, 3), 244, np.uint8)

            file.write(
                tiles(), shape=(length, length, 3), dtype=np.uint8, tile=(TILE, TILE), photometric="rgb",
                compression="zlib", metadata=None, subifds=2 if level == 0 else None,
                subfiletype=1 if level else 0, resolution=(40000, 40000), resolutionunit="CENTIMETER",
            )  # fmt: skip


def predict(path: Path, out: Path, channels: int, workers: int) -> None:
    """What the measured process does; as many workers as are asked for, however few the cores."""
    import torch

    from benchmark.evaluation.settings import Settings
    from benchmark.evaluation.slides import predict as slides
    from benchmark.representations.hv import HV

    class Uncondensed(HV):
        def condensed(self, maps):
            return maps

    more = channels - LEAST_CHANNELS

    class Coded(torch.nn.Module):
        mpp, representation = 0.25, Uncondensed() if more else HV()

        def predict(self, images):
            red, hv = images[:, :1] * 255 - 127, images[:, 1:] * 255 / 127 - 1
            kinds = torch.cat([red * 0 + k / 10 for k in range(TYPES + 1)], 1)
            maps = {"np": torch.cat([-red, red], 1), "hv": hv, "tp": kinds}
            return maps | ({"more": red.repeat(1, more, 1, 1)} if more else {})

    slides.usable_cores = lambda: workers
    began = time.monotonic()
    names = [f"type {k}" for k in range(1, TYPES + 1)]
    count = slides.predict_slides(Coded(), [path], out, names, Settings(workers=workers), "cpu", "coded")
    facts = json.loads((out / f"{path.stem}.json").read_text())
    print(json.dumps({"nuclei": count, "tiles": facts["tiles"], "seconds": round(time.monotonic() - began)}))


def proportional(pid: int) -> int:
    """Bytes of a process, pages that several share divided among them; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def measured(path: Path, out: Path, channels: int, workers: int) -> dict:
    """Run `predict` in a process of its own; its result and peaks in MB."""
    command = [sys.executable, __file__, "--child", str(path), str(out)]
    command += ["--channels", str(channels), "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    total = first = most = 0
    while process.poll() is None:
        sizes = [proportional(process.pid), *map(proportional, children(process.pid))]
        total, first, most = max(total, sum(sizes)), max(first, sizes[0]), max(most, max(sizes[1:], default=0))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(process.returncode)
    peaks = {"peak_mb": total, "main_mb": first, "largest_worker_mb": most}
    return json.loads(process.stdout.read()) | {name: round(size / 1e6) for name, size in peaks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[4000, 8000], help="of the slides (4000 8000)")
    parser.add_argument("--tissue", type=float, default=1, help="share of the slides that is tissue (default 1)")
    parser.add_argument("--channels", type=int, default=LEAST_CHANNELS, help="of the raw maps (10)")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode (default 2)")
    parser.add_argument("--folder", help="where slides and results go meanwhile")
    parser.add_argument("--out", type=Path, help="csv with a line per slide")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return predict(*map(Path, options.child), options.channels, options.workers)
    rows = []
    for side in options.sides:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="slide-memory-") as folder:
            path = Path(folder) / "slide.tif"
            make(path, side, options.tissue)
            row = {"side": side, "tissue": options.tissue, "channels": options.channels, "workers": options.workers}
            row |= {"slide_mb": round(path.stat().st_size / 1e6)}
            row |= measured(path, Path(folder) / "out", options.channels, options.workers)
            written = sum(one.stat().st_size for one in (Path(folder) / "out").iterdir())
            row |= {"written_mb": round(written / 1e6), "cores": os.cpu_count(), "machine": platform.machine()}
            rows.append(row)
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
