"""Nuclei in images of one's own: windows through the network, maps joined, one decoding of the whole image."""

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from benchmark.data.files import checks, label_files, names, resolution
from benchmark.data.files.slide import SUFFIXES as SLIDES
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.pictures import outlined
from benchmark.evaluation import resampling
from benchmark.evaluation.prediction import check_finite
from benchmark.evaluation.resampling import LEAST
from benchmark.evaluation.settings import ASSUMED, Settings
from benchmark.evaluation.slides.outputs import ENDINGS, slide_of
from benchmark.formats.geojson import write_geojson
from benchmark.layers import image_ops
from benchmark.runtime import distributed, precision
from benchmark.runtime.counts import counted, part_of
from benchmark.runtime.csv_cells import csv_cell
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic
from benchmark.runtime.placing import placed

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy")
READ = f"images ({', '.join(SUFFIXES)}) or slides ({', '.join(SLIDES)})"
SOFTWARE = "nuclei-benchmark predict"  # tag of the label maps that are written: whose they are
COLUMNS = ("image", "id", "type", "x", "y", "area_px", "area_um2", "score")
DEFAULTS = Settings()


def images_in(folder: Path) -> list[Path]:
    """Image files and slides of a folder, or one file, sorted by name.

    Raises:
        InputError: nothing there, a file of another kind or with a name that no text can hold, or two files that would
            have the same outputs.
    """
    if folder.is_file():
        names.check(folder)
        _check_kind(folder)
        return [folder]
    if not folder.exists():
        raise InputError(f"{folder}: expected {READ}, found no such file or folder; name the file, or their folder.")
    paths = names.listing(folder, SUFFIXES + SLIDES) if folder.is_dir() else []
    if not paths:
        others = f" ({unread})" if (unread := names.unread(folder, SLIDES)) else ""
        raise InputError(f"{folder}: expected {READ}, found none{others}; name their folder.")
    if twice := names.twice(names.stem(path) for path in paths):
        raise InputError(f"{folder}: two images are called '{twice}'; their results would overwrite each other.")
    return paths


def _check_kind(path: Path) -> None:
    """Raises InputError for a file whose ending is of no image or slide: Pillow would open a part of it, or a label."""
    if path.suffix.lower() not in SUFFIXES + SLIDES:
        raise InputError(
            f"{path}: expected {READ}, found '{path.suffix}'; save an image as PNG, and convert a slide to tiled TIFF."
        )


def predict(
    method, image, mpp: float | None = None, *, device: str = "auto", window: int = 256, margin: int = 32
) -> Nuclei:
    """The nuclei that a method finds in one image of any size.

    Args:
        method: a Method as `build` makes it, with its weights; it is put into evaluation mode and on the device.
        image: RGB (H, W, 3) in 0..255, or the path of a file: PNG, TIFF, JPEG or npy.
        mpp: micrometres per pixel of the image; None: those that a TIFF states, else 0.25. Where the method's differ
            the image is resized for it, and the nuclei are those of the image as it is.
        device: "auto", "cpu", "cuda" or "cuda:<i>".
        window: side in px of what the network sees at once; margin: px of it that only give context.

    Returns:
        instances int32 (H, W) with ids 1..N, 0 = background; types uint8 (N,), 0 = untyped.

    Raises:
        InputError: an image that is not RGB or damaged, a device that is not here, a resolution or windows that make no
            sense, or a method whose output is not finite.
    """
    settings = Settings(mpp, window, margin)
    settings.check()
    if isinstance(image, str | Path):
        _check_kind(Path(image))
        if Path(image).suffix.lower() in SLIDES:
            raise InputError(
                f"{image}: expected an image, found a slide; `python -m benchmark predict` takes it, or give a region."
            )
        pixels, name = label_files.image(Path(image)), str(image)
        mpp = resolution.of_image(Path(image)) if mpp is None else mpp
    else:
        pixels, name = checks.rgb(np.asarray(image), "the image"), "the image"
    where = distributed.resolve(device)
    placed(method.eval(), where)
    return nuclei_of(method, pixels, ASSUMED if mpp is None else mpp, where, settings, name=name)


def maps_of(method, image: np.ndarray, device, settings: Settings) -> dict[str, np.ndarray]:
    """Raw maps (C, H, W) of one image of any size. image: uint8 (H, W, 3)."""
    number_format = precision.precision_on(settings.precision, torch.device(device))

    def predict(windows: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.inference_mode(), precision.autocast(number_format, torch.device(device)):
            outputs = method.predict(windows.to(device))
        # maps wait in main memory; the tissue, a vector, is of no use here
        return {name: values.float().cpu() for name, values in outputs.items() if values.ndim == 4}

    whole = image_ops.to_float(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None])
    maps = image_ops.in_windows(predict, whole, settings.window, settings.margin, at_once=settings.batch)
    return {name: values[0].numpy() for name, values in maps.items()}


def nuclei_of(
    method, image: np.ndarray, mpp: float, device, settings: Settings = DEFAULTS, name: str = "the image"
) -> Nuclei:
    """Nuclei of one image at its own resolution; where that is not the method's the image is resized for it.

    An image that has fewer than LEAST pixels a side, as it is or resized, has none.

    Args:
        mpp: micrometres per pixel of the image, whatever `settings` say.

    Raises:
        InputError: the method's output is not finite; the sentence begins with `name`.
    """
    height, width = image.shape[:2]
    resized = resampling.differs(mpp, method.mpp)
    sides = resampling.sides(image.shape, mpp, method.mpp)
    if min(sides) < LEAST:
        return Nuclei.from_labels(np.zeros((height, width), np.int32), None, mpp)
    seen = resampling.resized(image, *sides) if resized else image
    maps = maps_of(method, seen, device, settings)
    check_finite(maps, name)
    nuclei = method.representation.decode(maps, method.mpp if resized else mpp)
    return resampling.brought_back(nuclei, (height, width), mpp, method.mpp) if resized else nuclei


def write(folder: Path, path: Path, image: np.ndarray, nuclei: Nuclei, classes: list[str]) -> list[dict]:
    """<stem>.tif (label map), <stem>.geojson and <stem>.png (overlay); returns the lines of nuclei.csv.

    The stem is that of `names.stem`: what is written for x.ome.tif is called x.
    """
    content = io.BytesIO()
    small = len(nuclei) < 2**16
    labels_as = np.uint16 if small else np.int32
    tifffile.imwrite(content, nuclei.instances.astype(labels_as), compression="zlib", software=SOFTWARE)
    overlay = io.BytesIO()
    Image.fromarray(outlined(Sample(image, nuclei))).save(overlay, "PNG")
    labels, picture, contours = _files(folder, path)
    for file, data in ((labels, content), (picture, overlay)):
        with atomic(file) as handle:
            handle.write(data.getvalue())
    write_geojson(contours, nuclei.instances, nuclei.types, classes, nuclei.mpp, nuclei.scores)
    areas = np.bincount(nuclei.instances.ravel(), minlength=len(nuclei) + 1)[1:]
    y, x = np.nonzero(nuclei.instances)
    ids = nuclei.instances[y, x]
    centre = [np.bincount(ids, v, len(nuclei) + 1)[1:] / np.maximum(areas, 1) for v in (x, y)]
    scores = [""] * len(nuclei) if nuclei.scores is None else nuclei.scores.round(4).astype(float).round(4).tolist()
    return [
        dict(zip(COLUMNS, (path.name, k + 1, classes[t - 1] if t else "", *at, area, area * nuclei.mpp**2, score)))
        for k, (t, area, score, *at) in enumerate(
            zip(nuclei.types.tolist(), areas.tolist(), scores, *(c.round(2).tolist() for c in centre))
        )
    ]


def _files(folder: Path, path: Path) -> list[Path]:
    """What `write` makes of an image."""
    return [folder / f"{names.stem(path)}{suffix}" for suffix in (".tif", ".png", ".geojson")]


def _not_ours(files: list[Path]) -> Path | None:
    """A file of the user's in the place of an image's results; None where there is none.

    Results are there all three, or, of a call that was killed between them, the label map with our tag.
    """
    there = [file for file in files if file.exists()]
    if len(there) in (0, len(files)):
        return None
    try:
        with tifffile.TiffFile(files[0]) as file:
            ours = file.pages.first.software == SOFTWARE
    except Exception:  # tifffile raises errors of any class for what is no TIFF of ours
        ours = False
    return None if ours else there[0]


def _begin(out: Path, paths: list[Path]) -> None:
    """Make room for results: those of earlier calls must not stand between them as if they were of this one.

    Raises:
        InputError: the folder holds results of other images, or of a slide of the same name, or files that are none in
            the place of a result.
    """
    if (table := out / names.PREDICTED).exists():
        with open(table, encoding="utf-8", errors="replace") as handle:
            first = handle.readline().strip()
        if first != ",".join(COLUMNS):
            raise InputError(
                f"{table}: expected the nuclei of an earlier call, found another file, which would be overwritten; "
                "name another folder, or move it."
            )
    for path in paths:
        facts = out / f"{names.stem(path)}{ENDINGS[-1]}"
        if slide_of(facts) is not None:
            raise InputError(
                f"{out}: {facts.name} and the files beside it are of a slide; the overlay of {path.name} "
                "would overwrite its overview; name another folder."
            )
        if other := _not_ours(_files(out, path)):
            raise InputError(
                f"{path}: {other} is no result of an earlier call and would be overwritten; name another folder, or "
                "move it."
            )
    own = {names.key(names.stem(path)) for path in paths}
    tifs = names.listing(out, (".tif",)) if out.is_dir() else []
    others = [path for path in tifs if path.with_suffix(".geojson").exists() and names.key(path.stem) not in own]
    if others:
        raise InputError(
            f"{out}: holds results of {len(others)} other images (such as {others[0].name}) of an earlier call, which "
            "would count as those of this one; name another folder, or remove them."
        )
    (out / names.PREDICTED).unlink(missing_ok=True)


def predict_files(method, paths: list[Path], out: Path, classes: list[str], settings: Settings, device, show) -> int:
    """Predict all images, write their files and nuclei.csv; returns the number of nuclei.

    Raises:
        InputError: an image that cannot be used, where its header shows that before the first one is predicted, or
            results of other images in `out`: nothing is written. An image that turns out to be damaged, or for which
            the method's output is not finite: it has no files and no lines, all others are written; without any other
            there is no nuclei.csv.
    """
    for path in paths:
        label_files.check_image(path)
    resolutions = _resolutions(paths, settings.mpp)
    coarse = {path: blurred for path, mpp in resolutions.items() if (blurred := resampling.blurred(mpp, method.mpp))}
    if coarse:
        path, blurred = next(iter(coarse.items()))
        print(f"{len(coarse)} of {counted(len(paths), 'image')} (such as {path.name}): {blurred}", file=sys.stderr)
    _begin(out, paths)
    placed(method.eval(), device)
    lines, faults = [], []
    show(0, len(paths))
    with checks.Doubts() as doubts:
        for done, (path, mpp) in enumerate(resolutions.items(), 1):
            try:
                image = label_files.image(path, doubts)
                _say_small(path, resampling.sides(image.shape, mpp, method.mpp))
                nuclei = nuclei_of(method, image, mpp, device, settings, str(path))
            except InputError as error:
                faults.append(str(error))
                if len(faults) > 1:  # the first is named at the end
                    print(f"left out: {error}", file=sys.stderr)
                for file in _files(out, path):
                    file.unlink(missing_ok=True)
            else:
                lines += write(out, path, image, replace(nuclei, image_id=names.stem(path)), classes)
            show(done, len(paths))
    more = f" And {len(faults) - 1} more, named above." if len(faults) > 1 else ""
    if len(faults) == len(paths):
        such = f"none of {len(faults)} images can be used, and nothing is written: " if len(faults) > 1 else ""
        raise InputError(f"{such}{faults[0]}{more}")
    _write_table(out / names.PREDICTED, lines)
    if faults:
        left_out = part_of(len(faults), len(paths), "image")
        raise InputError(f"{left_out} left out, all others are written to {out}: {faults[0]}{more}")
    return len(lines)


def _write_table(path: Path, lines: list[dict]) -> None:
    with atomic(path, "w") as handle:
        table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows({column: csv_cell(value) for column, value in line.items()} for line in lines)


def _resolutions(paths: list[Path], chosen: float | None) -> dict[Path, float]:
    """Micrometres per pixel of each image: the chosen ones, else those that a TIFF states, else ASSUMED, which is said.

    Raises:
        InputError: a TIFF states pixels that are not square, and nothing else is chosen.
    """
    if chosen is not None:
        return dict.fromkeys(paths, chosen)
    stated = {path: resolution.of_image(path) for path in paths}
    silent = [path for path, mpp in stated.items() if mpp is None]
    if silent:
        such = f" (such as {silent[0].name})"
        print(
            f"{part_of(len(silent), len(paths), 'image', ('states', 'state'), such)} no resolution of a microscope and "
            f"{'is' if len(silent) == 1 else 'are'} taken to have {ASSUMED} micrometres per pixel; --mpp says another",
            file=sys.stderr,
        )
    return {path: ASSUMED if mpp is None else mpp for path, mpp in stated.items()}


def _say_small(path: Path, sides: tuple[int, int]) -> None:
    if min(sides) < LEAST:
        print(f"{path}: {sides[0]} x {sides[1]} pixels are too few to see a nucleus in: it has none", file=sys.stderr)
