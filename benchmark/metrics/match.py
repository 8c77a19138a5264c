"""Match of two label images: all that any metric needs, from one pass over the pixels.

The joint histogram of (true id, true type, predicted id, predicted type) fixes every overlap score;
centroids, borders, outlines and shapes fix the rest. No metric of this package touches pixels after `match`.
"""

from dataclasses import dataclass, field

import numpy as np

from .derived import pair_iou, partners
from .inputs import label_map, type_ids
from .outline import contacts, drawable, touching
from .pairs import sum_by_pair
from .pieces import Pieces
from .rle import Runs, encode, merge
from .shape import eccentricity, solidity


@dataclass(frozen=True)
class Side:
    """The nuclei of one side ("true" or "pred") in ascending order of id.

    Attributes:
        id: int64 (N,) ids in the map.
        type: int64 (N,) type by majority of pixels: the lower on a tie, 0 only when no pixel has a type.
        area: int64 (N,) pixels.
        x, y: float64 (N,) mean pixel coordinate, in pixels.
        border: bool (N,) touches the image edge.
        touching: bool (N,) touches another nucleus of its side, corners included.
        points: bool (N,) outline has at least three points (see outline.py).
        solidity, eccentricity: float64 (N,) see shape.py; NaN unless `shapes` is true.
        partner: int64 (N,) id of the nucleus of the other side with IoU > 0.5, 0 = none.
        iou: float64 (N,) IoU with the partner; without one, the largest IoU with any nucleus.
    """

    id: np.ndarray
    type: np.ndarray
    area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    border: np.ndarray
    touching: np.ndarray
    points: np.ndarray
    solidity: np.ndarray
    eccentricity: np.ndarray
    partner: np.ndarray
    iou: np.ndarray

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class Match:
    """Result of `match` for one image.

    Attributes:
        shape, mpp: (H, W) in pixels, micrometres per pixel.
        true, pred: the nuclei of each side.
        true_id, true_type, pred_id, pred_type, pixels: int64 (K,) the joint histogram, id 0 = background
            (always type 0); one row per combination that occurs.
        pair_true, pair_pred, pair_pixels: int64 (P,) positions in `true` and `pred` and their common pixels.
    """

    shape: tuple[int, int]
    mpp: float
    true: Side
    pred: Side
    true_id: np.ndarray
    true_type: np.ndarray
    pred_id: np.ndarray
    pred_type: np.ndarray
    pixels: np.ndarray
    pair_true: np.ndarray = field(repr=False)
    pair_pred: np.ndarray = field(repr=False)
    pair_pixels: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Overlaps:
    """Result of `overlaps`: the joint histogram of two label images.

    Attributes:
        runs: both maps and their types, cut into runs.
        true, pred: the sides, as objects (ids, areas) and their one-type pieces.
        piece_true, piece_pred, pixels: int64 (K,) the histogram over pieces.
        pair_true, pair_pred, shared: int64 (P,) the same over objects, background left out.
    """

    runs: Runs
    true: Pieces
    pred: Pieces
    piece_true: np.ndarray
    piece_pred: np.ndarray
    pixels: np.ndarray
    pair_true: np.ndarray
    pair_pred: np.ndarray
    shared: np.ndarray


def overlaps(true_instances, true_types, pred_instances, pred_types) -> Overlaps:
    """Ids, areas and overlaps of two label images. Arguments and errors as for `match`."""
    true_map, pred_map = label_map(true_instances, "true_instances"), label_map(pred_instances, "pred_instances")
    if true_map.shape != pred_map.shape:
        raise ValueError(f"pred_instances has shape {pred_map.shape}, expected that of true_instances {true_map.shape}")
    true_types = type_ids(true_types, true_map.shape, "true_types")
    pred_types = type_ids(pred_types, true_map.shape, "pred_types")
    type_maps = [t for t in (true_types, pred_types) if t.ndim == 2]
    runs = encode([true_map, pred_map, *type_maps])
    values = iter(runs.values[2:])
    true = Pieces(runs, runs.values[0], next(values) if true_types.ndim == 2 else true_types, true_types.ndim, "true")
    pred = Pieces(runs, runs.values[1], next(values) if pred_types.ndim == 2 else pred_types, pred_types.ndim, "pred")
    piece_true, piece_pred, pixels = sum_by_pair(true.piece, pred.piece, runs.length, len(pred.type))
    of_true, of_pred = true.object[piece_true], pred.object[piece_pred]
    both = (of_true > 0) & (of_pred > 0)
    pairs = sum_by_pair(of_true[both], of_pred[both], pixels[both], len(pred.ids))
    return Overlaps(runs, true, pred, piece_true, piece_pred, pixels, *pairs)


def match(true_instances, true_types, pred_instances, pred_types, *, mpp: float, shapes: bool = True) -> Match:
    """Match two label images.

    Args:
        true_instances, pred_instances: (H, W) integers >= 0 (or floats holding whole numbers), 0 =
            background; ids of any size, with gaps, in any order; a map without background is allowed.
        true_types, pred_types: pixel type map (H, W), or one type per instance (N,) in ascending order of
            id, or None (all 0 = untyped). Types of background pixels are ignored. At most 255.
        mpp: micrometres per pixel.
        shapes: compute solidity and eccentricity, which no protocol needs.

    Raises:
        ValueError: shapes that differ, negative or fractional ids, a wrong number of types, mpp not positive.
    """
    if not (isinstance(mpp, int | float | np.number) and 0 < mpp < np.inf):
        raise ValueError(f"mpp is {mpp!r}, expected a positive number of micrometres per pixel")
    joint = overlaps(true_instances, true_types, pred_instances, pred_types)
    runs, true, pred = joint.runs, joint.true, joint.pred
    pair_true, pair_pred, shared = joint.pair_true, joint.pair_pred, joint.shared
    iou = pair_iou(true.area[pair_true], pred.area[pair_pred], shared)
    return Match(
        shape=runs.shape,
        mpp=float(mpp),
        true=_describe(true, runs, pair_true, pred.ids[pair_pred], iou, shapes),
        pred=_describe(pred, runs, pair_pred, true.ids[pair_true], iou, shapes),
        true_id=true.ids[true.object[joint.piece_true]],
        true_type=true.type[joint.piece_true],
        pred_id=pred.ids[pred.object[joint.piece_pred]],
        pred_type=pred.type[joint.piece_pred],
        pixels=joint.pixels,
        pair_true=pair_true - 1,
        pair_pred=pair_pred - 1,
        pair_pixels=shared,
    )


def _describe(side: Pieces, runs: Runs, own: np.ndarray, other_id: np.ndarray, iou: np.ndarray, shapes: bool) -> Side:
    """The nuclei of one side; own, other_id, iou (P,): object, partner's id and IoU of each overlapping pair."""
    n = len(side.ids)
    nuclei = merge(runs, side.label)
    of, row, col, length = nuclei.values[0], nuclei.row, nuclei.col, nuclei.length
    area = np.maximum(side.area, 1)
    border = np.zeros(n, bool)
    height, width = runs.shape
    border[of[(row == 0) | (row == height - 1) | (col == 0) | (col + length == width)]] = True
    partner, best = partners(n, own, other_id, iou)
    meeting = contacts(nuclei)
    columns = {
        "id": side.ids,
        "type": side.majority(),
        "area": side.area,
        "x": np.bincount(of, weights=length * (col + (length - 1) / 2), minlength=n) / area,
        "y": np.bincount(of, weights=length * row, minlength=n) / area,
        "border": border,
        "touching": touching(nuclei, n, meeting),
        "points": drawable(nuclei, n, meeting),
        "solidity": solidity(nuclei, n) if shapes else np.full(n, np.nan),
        "eccentricity": eccentricity(nuclei, n) if shapes else np.full(n, np.nan),
        "partner": partner,
        "iou": best,
    }
    return Side(**{name: column[1:] for name, column in columns.items()})
