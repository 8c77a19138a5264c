"""What is kept of a tile: its nuclei, whole ones as outlines, those that reach into another tile as pixels.

numpy only: `decode_and_store` runs in worker processes, which need no torch for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.files import archive
from benchmark.data.nuclei import Nuclei
from benchmark.evaluation.prediction import check_finite
from benchmark.formats.geojson import nest, rings_of
from benchmark.postproc.seams import Box, Part, common, parts_of
from benchmark.runtime.files import atomic


@dataclass(frozen=True)
class Nucleus:
    """A nucleus of a slide, in px as the method sees it.

    Attributes:
        x, y: mean of its pixels' centres, with the corner of the first pixel at 0.
        area: px.
        type: 0 = untyped.
        score: None where the method gives none.
        polygons: each a list of closed rings (K, 2) of pixel corners x, y, the outer one first.
    """

    x: float
    y: float
    area: int
    type: int
    score: float | None
    polygons: list[list[np.ndarray]]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know of a tile.

    Attributes:
        path: where its nuclei go.
        box: px on the slide as the method sees it.
        others: boxes of the tiles that it shares pixels with.
        mpp: micrometres per pixel.
        name: for sentences.
        unreadable: "level row column" of the file's tiles below it that could not be decoded -> why.
    """

    path: Path
    box: Box
    others: tuple[Box, ...]
    mpp: float
    name: str
    unreadable: dict[str, str]


def nucleus_of(part: Part, scored: bool) -> Nucleus:
    """A nucleus as outlines."""
    rows, columns = np.nonzero(part.mask)
    corner = np.array([part.left, part.top])
    polygons = [[np.asarray(ring) + corner for ring in rings] for rings in nest(rings_of(part.mask))]
    x, y = (float(places.mean()) + start + 0.5 for places, start in ((columns, part.left), (rows, part.top)))
    return Nucleus(x, y, len(rows), part.type, part.score if scored else None, polygons)


def decode_and_store(decode: Callable[..., Nuclei], maps: dict[str, np.ndarray], job: Job) -> int:
    """Decode a tile's raw maps and write its nuclei, whole or not at all; returns how many there are.

    Raises:
        InputError: the maps are not finite.
    """
    check_finite(maps, job.name)
    nuclei = decode(maps, job.mpp, None)
    inner: list[Part] = []
    seam: list[Part] = []
    for part in parts_of(nuclei, job.box[0], job.box[1]):
        (seam if any(common(part.box, box) for box in job.others) else inner).append(part)
    store(job, inner, seam, nuclei.scores is not None)
    return len(nuclei)


def store(job: Job, inner: list[Part], seam: list[Part], scored: bool) -> None:
    """Write a tile's nuclei: `inner` ones lie in this tile alone."""
    whole = [nucleus_of(part, True) for part in inner]
    rings = [ring for nucleus in whole for polygon in nucleus.polygons for ring in polygon]
    arrays = {
        "scored": np.array(scored),
        "unreadable": np.array([f"{place}\n{why}" for place, why in job.unreadable.items()], str),
        "xy": np.array([(one.x, one.y) for one in whole], np.float64).reshape(-1, 2),
        "area": np.array([one.area for one in whole], np.int64),
        "type": np.array([one.type for one in whole], np.uint8),
        "score": np.array([one.score for one in whole], np.float32),
        "polygons": np.array([len(one.polygons) for one in whole], np.int64),
        "rings": np.array([len(polygon) for one in whole for polygon in one.polygons], np.int64),
        "corners": np.array([len(ring) for ring in rings], np.int64),
        "points": np.concatenate([np.zeros((0, 2), np.int64), *rings]).astype(np.int32),
        "seam_box": np.array([part.box for part in seam], np.int64).reshape(-1, 4),
        "seam_type": np.array([part.type for part in seam], np.uint8),
        "seam_score": np.array([part.score for part in seam], np.float32),
        "seam_bits": np.packbits(np.concatenate([np.zeros(0, bool), *(part.mask.ravel() for part in seam)])),
    }
    with atomic(job.path) as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)


@dataclass(frozen=True)
class Stored:
    """A tile as `store` wrote it; `unreadable` as in Job."""

    whole: list[Nucleus]
    seam: list[Part]
    scored: bool
    unreadable: dict[str, str]


def read(path: Path) -> Stored:
    """A stored tile. Raises InputError for a damaged file."""
    with archive.reading(path), np.load(path, allow_pickle=False) as file:
        values = {name: file[name] for name in file.files}
        scored = bool(values["scored"])
        polygons = _split(_split(np.split(values["points"], np.cumsum(values["corners"])[:-1]), values["rings"]),
                          values["polygons"])  # fmt: skip
        scores = values["score"].tolist() if scored else [None] * len(values["area"])
        whole = [
            Nucleus(x, y, area, kind, score, rings)
            for (x, y), area, kind, score, rings in zip(
                values["xy"].tolist(), values["area"].tolist(), values["type"].tolist(), scores, polygons, strict=True
            )
        ]
        boxes = values["seam_box"].tolist()
        sizes = [(bottom - top) * (right - left) for top, left, bottom, right in boxes]
        bits = np.unpackbits(values["seam_bits"], count=sum(sizes)).astype(bool)
        masks = np.split(bits, np.cumsum(sizes)[:-1]) if boxes else []
        seam = [
            Part(top, left, mask.reshape(bottom - top, right - left), kind, score)
            for (top, left, bottom, right), mask, kind, score in zip(
                boxes, masks, values["seam_type"].tolist(), values["seam_score"].tolist(), strict=True
            )
        ]
        unreadable = dict(text.split("\n", 1) for text in values["unreadable"].tolist())
        return Stored(whole, seam, scored, unreadable)


def _split(items: list, sizes: np.ndarray) -> list[list]:
    """Consecutive groups of these sizes."""
    ends = np.cumsum(sizes).tolist()
    return [items[end - size : end] for end, size in zip(ends, sizes.tolist())]
