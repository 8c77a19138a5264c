"""Nuclei in images of one's own: windows through the network, maps joined, one decoding of the whole image."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image

from benchmark.data.files import label_files
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.pictures import outlined
from benchmark.formats.geojson import write_geojson
from benchmark.layers import image_ops
from benchmark.layers.image_ops import pad_to
from benchmark.runtime import precision
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy")
SAME = 0.05  # relative difference of resolutions that is left as it is
COLUMNS = ("image", "id", "type", "x", "y", "area_px", "area_um2")


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, or one file, sorted by name.

    Raises:
        InputError: nothing there, or two files that would have the same outputs.
    """
    if folder.is_file():
        return [folder]
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none; name their folder.")
    stems = [p.stem for p in found]
    if twice := next((s for s in stems if stems.count(s) > 1), None):
        raise InputError(f"{folder}: two images are called '{twice}'; their results would overwrite each other.")
    return found


def maps_of(method, image: np.ndarray, device, *, window: int, margin: int, batch: int = 8) -> dict[str, np.ndarray]:
    """Raw maps (C, H, W) of one image of any size.

    Args:
        image: uint8 (H, W, 3).
        window: side in px of what the network sees at once; margin: px of it that are thrown away on each side.
    """
    height, width = image.shape[:2]
    core = window - 2 * margin
    rows, columns = -(-height // core), -(-width // core)
    # the same amount on both sides, so that the image stands in the middle of what the windows cover
    whole = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    padded, (top, left) = pad_to(image_ops.to_float(whole), rows * core + 2 * margin, columns * core + 2 * margin)
    corners = [(r * core, c * core) for r in range(rows) for c in range(columns)]
    out: dict[str, np.ndarray] = {}
    for start in range(0, len(corners), batch):
        part = corners[start : start + batch]
        windows = torch.cat([padded[..., y : y + window, x : x + window] for y, x in part]).to(device)
        with torch.inference_mode(), precision.autocast("fp32", device):
            found = method.predict(windows)
        for name, values in found.items():
            if values.ndim == 4:  # the tissue is of no use here
                values = values[..., margin : margin + core, margin : margin + core].float().cpu().numpy()
                shape = (values.shape[1], rows * core, columns * core)
                into = out.setdefault(name, np.zeros(shape, np.float32))
                for (y, x), value in zip(part, values):
                    into[:, y : y + core, x : x + core] = value
    top, left = top - margin, left - margin
    return {name: v[:, top : top + height, left : left + width] for name, v in out.items()}


def nuclei_of(method, image: np.ndarray, mpp: float, device, *, window: int, margin: int) -> Nuclei:
    """Nuclei of one image at its own resolution; where that is not the method's the image is resized for it."""
    height, width = image.shape[:2]
    scale = mpp / method.mpp
    resized = abs(scale - 1) > SAME
    seen = _resized(image, round(height * scale), round(width * scale)) if resized else image
    maps = maps_of(method, seen, device, window=window, margin=margin)
    nuclei = type(method).decode(maps, method.mpp if resized else mpp, None)
    if not resized:
        return nuclei
    rows = np.minimum(((np.arange(height) + 0.5) * scale).astype(int), seen.shape[0] - 1)
    columns = np.minimum(((np.arange(width) + 0.5) * scale).astype(int), seen.shape[1] - 1)
    back = nuclei.instances[np.ix_(rows, columns)]
    kept, instances = np.unique(back, return_inverse=True)  # what is lost between pixels has no id left
    instances = instances.reshape(back.shape) + (0 if kept[0] == 0 else 1)
    kept = kept[kept > 0]
    return Nuclei(instances=instances.astype(np.int32), types=nuclei.types[kept - 1], mpp=mpp)


def write(folder: Path, path: Path, image: np.ndarray, nuclei: Nuclei, classes: list[str]) -> list[dict]:
    """<stem>.tif (label map), <stem>.geojson and <stem>.png (overlay); returns the lines of nuclei.csv."""
    content = io.BytesIO()
    small = len(nuclei) < 2**16
    tifffile.imwrite(content, nuclei.instances.astype(np.uint16 if small else np.int32), compression="zlib")
    overlay = io.BytesIO()
    Image.fromarray(outlined(Sample(image, nuclei))).save(overlay, "PNG")
    for suffix, data in ((".tif", content), (".png", overlay)):
        with atomic(folder / f"{path.stem}{suffix}") as handle:
            handle.write(data.getvalue())
    write_geojson(folder / f"{path.stem}.geojson", nuclei.instances, nuclei.types, classes, nuclei.mpp)
    areas = np.bincount(nuclei.instances.ravel(), minlength=len(nuclei) + 1)[1:]
    y, x = np.nonzero(nuclei.instances)
    ids = nuclei.instances[y, x]
    centre = [np.bincount(ids, v, len(nuclei) + 1)[1:] / np.maximum(areas, 1) for v in (x, y)]
    return [
        dict(zip(COLUMNS, (path.name, k + 1, classes[t - 1] if t else "", *at, area, area * nuclei.mpp**2)))
        for k, (t, area, *at) in enumerate(
            zip(nuclei.types.tolist(), areas.tolist(), *(c.round(2).tolist() for c in centre))
        )
    ]


def predict(method, paths: list[Path], out: Path, classes: list[str], mpp: float, device, show, **windows) -> int:
    """Predict all images, write their files and nuclei.csv; returns the number of nuclei.

    Raises:
        InputError: an image that cannot be used; before the first one is predicted, as far as headers tell.
    """
    for path in paths:
        label_files.check_image(path)
    method.eval().to(device)
    lines = []
    show(0, len(paths))
    for done, path in enumerate(paths, 1):
        image = label_files.image(path)
        nuclei = nuclei_of(method, image, mpp, device, **windows)
        lines += write(out, path, image, replace(nuclei, image_id=path.stem), classes)
        show(done, len(paths))
    with atomic(out / "nuclei.csv", "w") as handle:
        table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    return len(lines)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    values = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    values = F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return values[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
