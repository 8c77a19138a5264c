"""Objects of the published evaluations: (id, type) pieces, and nuclei that have an outline."""

import numpy as np

from ..detection import Points, assign
from ..records import Records, remembered
from ..rle import dense


def pieces(nucleus: np.ndarray, type_: np.ndarray, typed: np.ndarray, n_classes: int) -> np.ndarray:
    """Object number of each overlap row: (nucleus, type) where typed, the whole nucleus elsewhere; 0 = none."""
    known = (type_ > 0) & (type_ <= n_classes)
    key = np.where(typed, np.where(known, nucleus * 256 + type_, 0), nucleus * 256)
    return dense(np.where(nucleus > 0, key, 0))[1]


def has_outline(records: Records, side: str) -> np.ndarray:
    """bool (N,) over the nuclei of a side: those that the published decoders keep.

    Those with an outline of at least three points (outline.py), less the lowest id of an image whose map leaves no
    background (it is taken for the background).
    """
    columns = records.columns
    nuclei = columns.side[side]
    background = np.bincount(columns.image[getattr(columns, side) == 0], minlength=columns.n) > 0
    lowest = np.ones(len(nuclei["image"]), bool)
    lowest[1:] = nuclei["image"][1:] != nuclei["image"][:-1]
    return nuclei["points"] & ~(lowest & ~background[nuclei["image"]])


def several_values(image: np.ndarray, nucleus: np.ndarray, pixels: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """bool (n,): images in which the map of these nuclei holds more than one value, background included."""
    n = len(whole)
    inside = nucleus > 0
    image, nucleus, pixels = image[inside], nucleus[inside], pixels[inside]
    area = np.bincount(image, weights=pixels, minlength=n)
    owner = np.zeros(int(nucleus.max(initial=0)) + 1, np.int64)
    owner[nucleus] = image + 1
    count = np.bincount(owner, minlength=n + 1)[1:]
    return (area > 0) & ((area < whole) | (count > 1))


def points_of(records: Records, side: str, kept: np.ndarray) -> Points:
    """The kept nuclei (bool mask over the side's) as points."""
    nuclei = records.columns.side[side]
    xy = np.stack([nuclei["x"], nuclei["y"]], 1)[kept]
    return Points(nuclei["image"][kept], xy, nuclei["type"][kept].astype(np.int64))


@remembered
def centroids(records: Records) -> tuple[Points, Points, np.ndarray, np.ndarray, np.ndarray]:
    """(true points, predicted points, rows, cols, distance px) of the published detection, before its radius.

    Nuclei with an outline on both sides; an empty side of an image becomes one nucleus of type 0 at (0, 0); the
    Hungarian method pairs all centroids of an image.
    """
    n = records.columns.n
    true, pred = (points_of(records, s, has_outline(records, s)).with_dummies(n) for s in ("true", "pred"))
    return true, pred, *assign(true, pred, n)


def pairs_within(records: Records, radius: np.ndarray) -> tuple[Points, Points, np.ndarray, np.ndarray]:
    """(true points, predicted points, rows, cols): `centroids` with pairs beyond radius (n,) px dropped."""
    true, pred, rows, cols, distance = centroids(records)
    near = distance <= radius[true.image[rows]]
    return true, pred, rows[near], cols[near]
