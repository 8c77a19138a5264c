"""Nuclei of a slide: tiles through network and decoding, kept one by one, joined over their seams at the end."""

import csv
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.data.files import archive, names
from benchmark.data.files.slide import Slide, View
from benchmark.evaluation import resampling
from benchmark.evaluation.forward import Forward, one_ahead
from benchmark.evaluation.settings import Settings
from benchmark.evaluation.slides import tiles
from benchmark.evaluation.slides.grid import Grid, Tile, times_seen
from benchmark.evaluation.slides.outputs import ENDINGS, Outputs
from benchmark.evaluation.slides.place import COLUMNS, COUNTS, Place, begin_counts, left_out
from benchmark.evaluation.slides.tissue import tissue
from benchmark.layers import image_ops
from benchmark.postproc.seams import Seams, common
from benchmark.runtime import precision
from benchmark.runtime.counts import counted, part_of
from benchmark.runtime.csv_cells import csv_cell
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic
from benchmark.runtime.placing import placed
from benchmark.runtime.progress import Progress
from benchmark.runtime.workers import in_order, usable_cores

KEPT_AS = 4  # form of what is kept and written; raise it when the same call would make something else
WAITING = 75_000_000  # bytes of raw maps that are with the workers at once, per worker; they stand there several times
FEW = 4  # workers, below which there is room for as much as for these
MANY = 4  # times that each pixel is seen, from which on it is said; 2.6 with the settings by default
POOL_FROM = 4  # tiles, from which on processes are worth their start


@dataclass(frozen=True)
class Overview:
    """A slide's thumbnail, where it has tissue, and px as the method sees the slide of one of its pixels (y, x)."""

    image: np.ndarray
    tissue: np.ndarray
    per_pixel: tuple[float, float]


def predict_slides(
    method, paths: list[Path], out: Path, classes: list[str], settings: Settings, device, made_by
) -> int:
    """Predict slides and write their files and slides.csv; returns the number of nuclei.

    A slide that is done, by the same settings and weights, is not predicted again; one that was killed goes on after
    the last tile that it kept.

    Args:
        made_by: what identifies the method and its weights, as JSON.

    Raises:
        InputError: a slide that cannot be used: all others are written. One with tiles that cannot be decoded is
            written, with white in their place. A slides.csv that is none of an earlier call: nothing is written.
    """
    begin_counts(out)
    _say_cost(settings)
    placed(method.eval(), device)
    summaries, faults = [], []
    for path in paths:
        try:
            summary = predict_slide(method, path, out, classes, settings, device, made_by)
        except InputError as error:
            faults.append(left_out(error, out / f"{names.stem(path)}{ENDINGS[-1]}"))
            print(f"left out: {faults[-1]}", file=sys.stderr)
            continue
        summaries.append(summary)
        if lost := summary["unreadable"]:
            (place, why), *_ = lost.items()
            level, row, column = place.split()
            faults.append(
                f"{path}: {counted(len(lost), 'tile')} of the file cannot be decoded, such as row {row}, column "
                f"{column} of level {level} ({why}); they count as glass, and all other nuclei are written; to try "
                f"again, remove {out / names.stem(path)}{ENDINGS[-1]}"
            )
            print(f"damaged: {faults[-1]}", file=sys.stderr)
    _write_counts(out / COUNTS, summaries, classes)
    if faults:
        more = f" And {len(faults) - 1} more, named above." if len(faults) > 1 else ""
        first = faults[0].rstrip(".")
        raise InputError(f"{part_of(len(faults), len(paths), 'slide')} left out or damaged: {first}.{more}")
    return sum(summary["nuclei"] for summary in summaries)


def _say_cost(settings: Settings) -> None:
    times = times_seen(settings.window, settings.margin, settings.tile)
    if times > MANY:
        print(
            f"window {settings.window}, margin {settings.margin} and tile {settings.tile} have the network see each "
            f"pixel of a slide {times:,.1f} times (2.6 by default); a smaller margin or a larger tile takes less time",
            file=sys.stderr,
        )


def predict_slide(method, path: Path, out: Path, classes: list[str], settings: Settings, device, made_by) -> dict:
    """Predict one slide; returns the content of its <stem>.json.

    Raises:
        InputError: not a slide that can be read, another process predicts it, results of another slide or files of
            the user's in their place, or outputs that are not finite.
    """
    stem = names.stem(path)
    number_format = precision.precision_on(settings.precision, torch.device(device))
    with Slide(path, settings.mpp) as slide:
        identity = {
            "version": KEPT_AS,
            "slide": archive.Member(path, "", (path.name,)).digest(),
            "method": made_by,
            "classes": classes,
            "device": torch.device(device).type,
            "settings": asdict(settings) | {"mpp": slide.mpp, "precision": number_format, "workers": None},
        }
        place = Place(out, stem, identity, path)
        if (done := place.done()) is not None:
            print(f"{path}: done before, by the same settings and weights", file=sys.stderr)
            return done
        place.check()
        with place.alone():
            place.begin()
            summary = _predicted(method, slide, place.work, stem, classes, settings, device, number_format)
            place.finish(summary)
        return summary


def _predicted(method, slide: Slide, work, stem, classes, settings: Settings, device, number_format) -> dict:
    view = View.of(slide, method.mpp)
    overview, lost = _overview(slide, view, work / "overview.npz")
    grid = Grid.of(view.height, view.width, settings.window, settings.margin, settings.tile)
    chosen = list(grid.tiles) if settings.everywhere else grid.on(overview.tissue, overview.per_pixel)
    share = float(overview.tissue.mean())
    own = slide.mpp * slide.levels[view.level].downsample
    resized = "" if own == view.mpp else f", resized from {own:.4g}"
    print(
        f"{slide.path}: {view.width} x {view.height} px at {view.mpp:.4g} µm/px (level {view.level} of "
        f"{len(slide.levels)}{resized}), tissue on {share:.0%} of it: {len(chosen)} of {len(grid.tiles)} tiles",
        file=sys.stderr,
    )
    if not chosen:
        print(
            f"{slide.path}: no tissue is seen on it, nothing is predicted; --everywhere predicts it all the same",
            file=sys.stderr,
        )
    if blurred := resampling.blurred(own, method.mpp):
        print(f"{slide.path}: {blurred}", file=sys.stderr)
    _predict_tiles(method, view, work, chosen, settings, device, number_format)
    seams = Seams([tile.box for tile in chosen])
    show = Progress(f"{slide.path.name}: joined", "tiles", end=False)
    with Outputs(work, stem, classes, view.scale, view.mpp, overview.image, overview.per_pixel) as outputs:
        for k, tile in enumerate(chosen):
            show(k, len(chosen))
            kept = _kept(work / f"{tile.name}.npz")
            lost |= kept.unreadable
            seams.add(k, kept.seam)
            for nucleus in kept.whole:
                outputs.add(nucleus)
            if k + 1 == len(chosen) or chosen[k + 1].row != tile.row:
                for part in seams.whole():
                    outputs.add(tiles.nucleus_of(part, kept.scored))
    outputs.overview(overview.tissue)
    pixel = (slide.mpp * 1e-3) ** 2 * view.scale[0] * view.scale[1]  # mm² of a pixel as seen
    return {
        "slide": slide.path.name,
        "mpp": slide.mpp,
        "level": view.level,
        "seen_mpp": view.mpp,
        "seen": [view.height, view.width],
        "overlap": grid.overlap,
        "tiles": len(chosen),
        "tissue_mm2": share * view.height * view.width * pixel,
        "nuclei": int(outputs.counts.sum()),
        "untyped": int(outputs.counts[0]),
        "by_type": dict(zip(classes, outputs.counts[1:].tolist())),
        "unreadable": lost,
    }


def _kept(path: Path) -> tiles.Stored:
    """A stored tile. Raises InputError for a damaged one, which is removed: the next call makes it anew."""
    try:
        return tiles.read(path)
    except InputError:
        path.unlink()
        raise


def _overview(slide: Slide, view: View, path: Path) -> tuple[Overview, dict[str, str]]:
    """The slide's thumbnail, kept in a file from the first call on; and tiles of the file that could not be decoded."""
    factor: float
    try:
        image, level, factor, lost = _looked(path)
    except InputError:  # there is none, or it is damaged
        image, level, factor = slide.thumbnail(Progress(f"{slide.path.name}: looked at", "blocks", end=False))
        lost = _places(slide)
        lines = [f"{place}\n{why}" for place, why in lost.items()]
        with atomic(path) as handle:
            np.savez_compressed(handle, image=image, level=level, factor=factor, lost=np.array(lines, str))
    whole = slide.levels[level]
    per_pixel = factor * view.height / whole.height, factor * view.width / whole.width
    return Overview(image, tissue(image, slide.mpp * whole.downsample * factor), per_pixel), lost


def _looked(path: Path) -> tuple[np.ndarray, int, int, dict[str, str]]:
    """What `_overview` kept. Raises InputError where it is absent or damaged."""
    with archive.reading(path), np.load(path, allow_pickle=False) as file:
        lost = dict(text.split("\n", 1) for text in file["lost"].tolist())
        return file["image"], int(file["level"]), int(file["factor"]), lost


def _places(slide: Slide) -> dict[str, str]:
    """ "level row column" -> why, of the tiles of the file that could not be decoded since the last call."""
    lost = {" ".join(map(str, place)): why for place, why in slide.unreadable.items()}
    slide.unreadable.clear()
    return lost


def _predict_tiles(method, view: View, work: Path, chosen: list[Tile], settings: Settings, device, number_format):
    """Predict and keep the tiles that were not kept yet: one is read while one is predicted and others are decoded."""
    left = [tile for tile in chosen if not (work / f"{tile.name}.npz").exists()]
    show = Progress(f"{view.slide.path.name}: predicted", "tiles")
    show(len(chosen) - len(left), len(chosen))
    where, margin = torch.device(device), settings.margin

    def forward(images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = image_ops.from_windows(method.predict, images, settings.window, margin, settings.batch)
        return method.representation.condensed({k: v.float() for k, v in maps.items() if v.ndim == 4})

    def read(tile: Tile) -> tuple[np.ndarray, dict[str, str]]:
        high, wide = tile.height + 2 * margin, tile.width + 2 * margin
        pixels = view.read(tile.top - margin, tile.left - margin, high, wide)
        return pixels, _places(view.slide)

    def started() -> Iterator[tuple[Tile, dict[str, str], Forward]]:
        for tile, (pixels, lost) in zip(left, _read_ahead(read, left)):
            yield tile, lost, Forward(forward, pixels[None], number_format, where)

    def jobs() -> Iterator[tuple]:
        # on a CPU a pass has ended when it is made: a second one would only take its maps' memory
        for tile, lost, passed in started() if where.type == "cpu" else one_ahead(started()):
            top, left_, bottom, right = tile.box
            inner = (slice(top - tile.top, bottom - tile.top), slice(left_ - tile.left, right - tile.left))
            maps = {name: values[0][(..., *inner)] for name, values in passed.maps().items()}
            others = tuple(one.box for one in chosen if one != tile and common(one.box, tile.box))
            name = f"{view.slide.path}, tile {tile.name}"
            yield (
                method.representation.decode,
                maps,
                tiles.Job(work / f"{tile.name}.npz", tile.box, others, view.mpp, name, lost),
            )

    workers = min(usable_cores(), settings.workers) if len(left) >= POOL_FROM else 0
    most = WAITING * max(FEW, workers)
    decoded = in_order(tiles.decode_and_store, jobs(), workers, ahead=1, size=_bytes, most=most)
    for done, _ in enumerate(decoded, len(chosen) - len(left) + 1):
        show(done, len(chosen))


def _bytes(decode, maps: dict[str, np.ndarray], job: tiles.Job) -> int:
    """Of a tile's raw maps: hv's of 1152 px, condensed, have 16 MB, stardist's 39 channels 207."""
    return sum(values.nbytes for values in maps.values())


def _read_ahead(read, items: Iterable) -> Iterator:
    """`read` of each item in order, the next one in a thread of its own while the last one is used."""
    with ThreadPoolExecutor(1) as thread:
        yield from (future.result() for future in one_ahead(thread.submit(read, item) for item in items))


def _write_counts(path: Path, summaries: list[dict], classes: list[str]) -> None:
    """A line per slide: nuclei in all and of each type, and the tissue's area."""
    columns = [*COLUMNS, *classes]
    with atomic(path, "w") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(map(csv_cell, columns))
        for one in summaries:
            values = [one["slide"], one["nuclei"], round(one["tissue_mm2"], 4), len(one["unreadable"])]
            table.writerow(map(csv_cell, [*values, *(one["by_type"][name] for name in classes)]))
