"""Peak memory and time of preparing a fold of published size: 2722 patches, float64, 13 GB on disk.

    python perf/prepare_memory.py [--folder DIR] [--data-root DIR] [--zip] [--patches 2722]

The fold is made of repeated patches (random nuclei, or those of fold 1 at --data-root), written as a stream,
prepared in a process of its own, reported as one line of JSON, and deleted.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

PREPARE = """
import json, resource, sys, time
from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
source = dataset("pannuke", sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.monotonic()
fold = prepare(source, sys.argv[2]).folds[1]
middle = time.monotonic()
prepare(source, sys.argv[2], progress=False)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({
    "patches": len(fold),
    "nuclei": len(fold.types),
    "seconds": round(middle - begin, 1),
    "second_call_seconds": round(time.monotonic() - middle, 3),
    "peak_rss_mb": round(after * 1024 / 1e6),
    "of_which_imports_mb": round(before * 1024 / 1e6),
    "cache_gb": round(sum(fold.meta["sizes"].values()) / 1e9, 2),
}))
"""


def patches(root: str | None) -> tuple[np.ndarray, np.ndarray]:
    """A few patches to repeat: images (M, 256, 256, 3) and masks (M, 256, 256, 6)."""
    if root:
        from benchmark.data.sources.pannuke import PanNuke

        samples = list(PanNuke(root).samples(1))
        masks = np.zeros((len(samples), 256, 256, 6))
        for mask, sample in zip(masks, samples):
            types = sample.nuclei.pixel_types()
            for channel in range(5):
                mask[..., channel] = np.where(types == channel + 1, sample.nuclei.instances, 0)
        masks[..., 5] = masks[..., :5].sum(-1) == 0
        return np.stack([sample.image for sample in samples]).astype(np.float64), masks
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 256, 256, 3)).astype(np.float64)
    masks = np.zeros((16, 256, 256, 6))
    for mask in masks:
        for number in range(1, 41):
            top, left = rng.integers(0, 240, 2)
            height, width = rng.integers(8, 28, 2)
            mask[top : top + height, left : left + width, rng.integers(5)] = number * 3
        mask[..., 5] = mask[..., :5].sum(-1) == 0
    return images, masks


def write_repeated(path: Path, rows: np.ndarray, n: int) -> None:
    """An .npy of n rows, made of `rows` over and over, without holding it."""
    path.parent.mkdir(parents=True)
    with open(path, "wb") as stream:
        header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (n, *rows.shape[1:])}
        np.lib.format.write_array_header_1_0(stream, header)
        for i in range(n):
            stream.write(rows[i % len(rows)].tobytes())


def zipped(root: Path) -> None:
    """Replace 'Fold 1' by fold_1.zip, deflated as the published one is."""
    with zipfile.ZipFile(root / "fold_1.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(root.rglob("*.npy")):
            archive.write(path, path.relative_to(root))
    shutil.rmtree(root / "Fold 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the fold is made (15 GB; twice that with --zip)")
    parser.add_argument("--data-root", help="PanNuke data whose fold 1 is repeated")
    parser.add_argument("--patches", type=int, default=2722)
    parser.add_argument("--zip", action="store_true", help="prepare from fold_1.zip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="prepare-memory-") as folder:
        root = Path(folder) / "data"
        begin = time.monotonic()
        images, masks = patches(options.data_root)
        write_repeated(root / "Fold 1" / "images" / "fold1" / "images.npy", images, options.patches)
        write_repeated(root / "Fold 1" / "masks" / "fold1" / "masks.npy", masks, options.patches)
        tissues = np.array(["Breast", "Colon"] * options.patches)[: options.patches].astype("<U13")
        np.save(root / "Fold 1" / "images" / "fold1" / "types.npy", tissues)
        del images, masks
        if options.zip:
            zipped(root)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        elapsed = time.monotonic() - begin
        print(f"made {size / 1e9:.1f} GB in {elapsed:.0f} s", file=sys.stderr)
        command = [sys.executable, "-c", PREPARE, str(root), str(Path(folder) / "cache")]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(json.dumps(json.loads(result.stdout) | {"raw_gb": round(size / 1e9, 2), "zip": options.zip}))


if __name__ == "__main__":
    main()
