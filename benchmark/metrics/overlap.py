"""Overlap of foregrounds: Dice, Jaccard, AJI, AJI+ from records."""

import numpy as np

from .assignment import assign_sparse
from .pairs import sum_by_pair
from .records import Records, remembered


@remembered
def dice(records: Records) -> np.ndarray:
    """float64 (n,) 2|T & P| / (|T| + |P|) of the foregrounds per image; NaN when both are empty
    (HoVer-Net)."""
    true, pred, both = _foreground(records)
    with np.errstate(invalid="ignore"):
        return 2 * both / (true + pred)


@remembered
def jaccard(records: Records) -> np.ndarray:
    """float64 (n,) |T & P| / |T | P| of the foregrounds per image; NaN when both are empty."""
    true, pred, both = _foreground(records)
    with np.errstate(invalid="ignore"):
        return both / (true + pred - both)


@remembered
def dice2(records: Records) -> np.ndarray:
    """float64 (n,) 2 sum |t & p| / sum (|t| + |p|) over all overlapping pairs of nuclei (HoVer-Net); NaN without any
    (the published code fails there)."""
    image, _, _, shared, union, columns = _pairs(records)
    inner = np.bincount(image, weights=shared, minlength=columns.n)
    with np.errstate(invalid="ignore"):
        return 2 * inner / np.bincount(image, weights=union + shared, minlength=columns.n)


@remembered
def aji(records: Records) -> np.ndarray:
    """float64 (n,) aggregated Jaccard index per image (Kumar et al. 2017, as HoVer-Net evaluates it).

    Every true nucleus takes the prediction of largest IoU, which may be taken twice; intersections and
    unions are added up, then the areas of true nuclei without overlap and of never chosen predictions join
    the union. NaN when both are empty; 0 when only one is (the published code fails on an empty prediction).
    """
    image, true, pred, shared, union, columns = _pairs(records)
    iou, new = shared / union, np.diff(true, prepend=0) > 0  # pairs ascend by true nucleus, then by predicted one
    best = np.maximum.reduceat(iou, np.flatnonzero(new)) if len(iou) else iou
    chosen = np.flatnonzero(iou == best[np.cumsum(new) - 1])
    chosen = chosen[np.diff(true[chosen], prepend=0) > 0]  # of equal ones the first
    return _aggregate(columns, image[chosen], true[chosen], pred[chosen], shared[chosen], union[chosen])


@remembered
def aji_plus(records: Records) -> np.ndarray:
    """float64 (n,) AJI with one-to-one pairs that maximise the total IoU per image (Graham et al. 2019)."""
    image, true, pred, shared, union, columns = _pairs(records)
    chosen = assign_sparse(true, pred, -shared / union, most=False)
    return _aggregate(columns, image[chosen], true[chosen], pred[chosen], shared[chosen], union[chosen])


def _aggregate(columns, image, true, pred, shared, union) -> np.ndarray:
    inner = np.bincount(image, weights=shared, minlength=columns.n)
    outer = np.bincount(image, weights=union, minlength=columns.n)
    for name, chosen in (("true", true), ("pred", pred)):
        rest = columns.side[name]["area"].astype(np.float64)
        rest[chosen - 1] = 0
        outer = outer + np.bincount(columns.side[name]["image"], weights=rest, minlength=columns.n)
    with np.errstate(invalid="ignore"):
        return inner / outer


@remembered
def _pairs(records: Records):
    """Overlapping pairs of nuclei by image, whatever their types: image, true, pred (1..), intersection,
    union."""
    columns = records.columns
    both = (columns.true > 0) & (columns.pred > 0)
    true, pred = columns.true[both], columns.pred[both]
    width = len(columns.side["pred"]["area"]) + 1
    true, pred, shared = sum_by_pair(true, pred, columns.pixels[both], width)
    area_true, area_pred = (columns.side[s]["area"].astype(np.float64) for s in ("true", "pred"))
    union = area_true[true - 1] + area_pred[pred - 1] - shared
    return columns.side["true"]["image"][true - 1], true, pred, shared, union, columns


def _foreground(records: Records):
    return (records.columns.images[f"{k}_pixels"].astype(np.float64) for k in ("true", "pred", "both"))
