"""One match of two label images: everything that any metric needs, from one pass over the pixels.

The joint histogram of (true id, true type, predicted id, predicted type) fixes every overlap score;
centroids, borders and outlines fix the rest. No metric of this package touches pixels after `match`.
"""

from dataclasses import dataclass, field

import numpy as np

from .outline import drawable
from .pairs import sum_by_pair
from .runs import Runs, dense, encode, merge

_TYPES = 256  # type ids are below this


@dataclass(frozen=True)
class Side:
    """The nuclei of one side ("true" or "pred") in ascending order of id.

    Attributes:
        id: int64 (N,) ids as found in the map.
        type: int64 (N,) type by majority of pixels: the lower on a tie, 0 only when no pixel has a type.
        area: int64 (N,) pixels.
        x, y: float64 (N,) mean pixel coordinate, in pixels.
        border: bool (N,) touches the image edge.
        points: bool (N,) outline has at least three points (see outline.py).
        partner: int64 (N,) id of the nucleus of the other side with IoU > 0.5, 0 = none.
        iou: float64 (N,) IoU with the partner; without one, the largest IoU with any nucleus.
    """

    id: np.ndarray
    type: np.ndarray
    area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    border: np.ndarray
    points: np.ndarray
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


def match(true_instances, true_types, pred_instances, pred_types, *, mpp: float) -> Match:
    """Match two label images.

    Args:
        true_instances, pred_instances: (H, W) integers >= 0 (or floats holding whole numbers), 0 =
            background; ids of any size, with gaps, in any order; a map without background is allowed.
        true_types, pred_types: pixel type map (H, W), or one type per instance (N,) in ascending order of
            id, or None (all 0 = untyped). Types of background pixels are ignored. At most 255.
        mpp: micrometres per pixel.

    Raises:
        ValueError: shapes that differ, negative or fractional ids, a wrong number of types, mpp not positive.
    """
    true_map, pred_map = _labels(true_instances, "true_instances"), _labels(pred_instances, "pred_instances")
    if true_map.shape != pred_map.shape:
        raise ValueError(f"pred_instances has shape {pred_map.shape}, expected that of true_instances {true_map.shape}")
    if not (np.isscalar(mpp) and mpp > 0):
        raise ValueError(f"mpp is {mpp!r}, expected a positive number of micrometres per pixel")
    true_types = _types(true_types, true_map.shape, "true_types")
    pred_types = _types(pred_types, true_map.shape, "pred_types")
    type_maps = [t for t in (true_types, pred_types) if t.ndim == 2]
    runs = encode([true_map, pred_map, *type_maps])
    values = iter(runs.values[2:])
    true = _Cells(runs, runs.values[0], next(values) if true_types.ndim == 2 else true_types, true_types.ndim, "true")
    pred = _Cells(runs, runs.values[1], next(values) if pred_types.ndim == 2 else pred_types, pred_types.ndim, "pred")

    cell_true, cell_pred, pixels = sum_by_pair(true.cell, pred.cell, runs.length, len(pred.type))
    of_true, of_pred = true.object[cell_true], pred.object[cell_pred]
    both = (of_true > 0) & (of_pred > 0)
    pair_true, pair_pred, shared = sum_by_pair(of_true[both], of_pred[both], pixels[both], len(pred.ids))
    iou = shared / (true.area[pair_true] + pred.area[pair_pred] - shared)
    return Match(
        shape=true_map.shape,
        mpp=float(mpp),
        true=true.side(runs, pair_true, pred.ids[pair_pred], iou),
        pred=pred.side(runs, pair_pred, true.ids[pair_true], iou),
        true_id=true.ids[of_true],
        true_type=true.type[cell_true],
        pred_id=pred.ids[of_pred],
        pred_type=pred.type[cell_pred],
        pixels=pixels,
        pair_true=pair_true - 1,
        pair_pred=pair_pred - 1,
        pair_pixels=shared,
    )


class _Cells:
    """One side of the runs, split into cells: the pixels of one id and one type. Object 0 and cell 0 are
    background.

    Attributes:
        ids (n,), area (n,): id and pixels of each object.
        object (c,), type (c,), cell_area (c,): of each cell.
        label (R,), cell (R,): object and cell of each run.
    """

    def __init__(self, runs: Runs, ids: np.ndarray, types: np.ndarray, ndim: int, name: str):
        if ids.min(initial=0) < 0:
            raise ValueError(f"{name}_instances holds the id {ids.min()}, expected ids >= 0 (0 = background)")
        self.ids, self.label = dense(ids.astype(np.int64, copy=False))
        n = len(self.ids)
        if ndim == 2:
            if types.min(initial=0) < 0 or types.max(initial=0) >= _TYPES:
                raise ValueError(f"{name}_types holds {types.min()}..{types.max()}, expected 0..{_TYPES - 1}")
            width = int(types.max(initial=0)) + 1
            cells, self.cell = dense(np.where(self.label > 0, self.label * width + types.astype(np.int64), 0))
            self.object, self.type = cells // width, cells % width
        else:
            if ndim == 0:
                types = np.zeros(n - 1, np.int64)
            if len(types) != n - 1:
                raise ValueError(f"{name}_types has {len(types)} entries, expected {n - 1}: one per instance id")
            self.cell, self.object = self.label, np.arange(n)
            self.type = np.concatenate([np.zeros(1, np.int64), types])
        self.cell_area = np.bincount(self.cell, weights=runs.length, minlength=len(self.object)).astype(np.int64)
        self.area = np.bincount(self.object, weights=self.cell_area, minlength=n).astype(np.int64)

    def majority(self) -> np.ndarray:
        """int64 (n,) type of each object: most pixels, the lower on a tie, 0 only when nothing else
        occurs."""
        if len(self.object) == len(self.ids):
            return self.type
        order = np.lexsort((self.type, -self.cell_area, self.type == 0, self.object))
        first = np.ones(len(order), bool)
        first[1:] = self.object[order][1:] != self.object[order][:-1]
        return self.type[order[first]]

    def side(self, runs: Runs, own: np.ndarray, other_id: np.ndarray, iou: np.ndarray) -> Side:
        """Describe the objects; own, other_id, iou (P,): object, partner's id and IoU of each overlapping
        pair."""
        n, (height, width) = len(self.ids), runs.shape
        area = np.maximum(self.area, 1)
        x = np.bincount(self.label, weights=runs.length * (runs.col + (runs.length - 1) / 2), minlength=n) / area
        y = np.bincount(self.label, weights=runs.length * runs.row, minlength=n) / area
        at_edge = (runs.row == 0) | (runs.row == height - 1) | (runs.col == 0) | (runs.col + runs.length == width)
        border = np.zeros(n, bool)
        border[self.label[at_edge]] = True
        best = np.zeros(n)
        np.maximum.at(best, own, iou)
        partner = np.zeros(n, np.int64)
        hit = iou > 0.5
        partner[own[hit]] = other_id[hit]
        columns = (
            self.ids,
            self.majority(),
            self.area,
            x,
            y,
            border,
            drawable(merge(runs, self.label), n),
            partner,
        )
        return Side(*(column[1:] for column in columns), best[1:])


def _labels(labels, name: str) -> np.ndarray:
    """Contiguous 2-D integer array."""
    labels = np.ascontiguousarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"{name} has shape {labels.shape}, expected a label map (H, W)")
    if labels.dtype == bool:
        return labels.view(np.uint8)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and np.array_equal(labels, np.rint(labels))):
            raise ValueError(
                f"{name} is {labels.dtype} and holds values that are no whole numbers; expected instance ids"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {labels.dtype}, expected integers")
    return labels


def _types(types, shape: tuple[int, int], name: str) -> np.ndarray:
    """int64 (N,) types per instance, or the contiguous (H, W) map, or a 0-d zero for "no types"."""
    if types is None:
        return np.zeros((), np.int64)
    types = np.ascontiguousarray(types)
    if types.dtype.kind == "f" and np.array_equal(types, np.rint(types)):
        types = types.astype(np.int64)
    if types.dtype.kind not in "iub":
        raise ValueError(f"{name} has dtype {types.dtype}, expected integer type ids")
    if types.ndim == 2 and types.shape != shape:
        raise ValueError(
            f"{name} has shape {types.shape}, expected {shape} as the instance map, or one type per instance"
        )
    if types.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {types.shape}, expected (H, W) or one type per instance")
    if types.ndim == 1 and (types.min(initial=0) < 0 or types.max(initial=0) >= _TYPES):
        raise ValueError(f"{name} holds {types.min()}..{types.max()}, expected 0..{_TYPES - 1}")
    return types if types.ndim == 2 else types.astype(np.int64)
