"""Panoptic quality by size, crowding and type of nuclei, from one match of whole images."""

from itertools import pairwise

import numpy as np
import pandas as pd

from .columns import Table
from .panoptic import Tally
from .records import Records

EDGES = (4.0, 6.0, 8.0)  # um; on H&E samples of PanNuke, MoNuSeg and CoNSeP every bin holds 4 to 49 % of the nuclei
NEIGHBOUR_EDGES = (4.0, 6.0, 8.0)  # um between centroids; a quarter to a third of CoNSeP's nuclei lie below 4


def by_size(records: Records, edges: tuple[float, ...] = EDGES, border: bool = True) -> pd.DataFrame:
    """Scores per bin of equivalent diameter d = 2 sqrt(area / pi) mpp, pooled over images.

    Nuclei are paired on whole images (IoU > 0.5, whatever their types); a true positive and a false negative
    belong to the bin of the true nucleus, a false positive to the bin of its own size.

    Args:
        edges: inner edges in um, ascending; a diameter equal to an edge belongs to the bin above it.
        border: False leaves out nuclei that touch the image edge: true ones, and unpaired predictions.

    Returns:
        A row per bin: bin ("<4", "4-6", ..., ">=8"), tp, fp, fn, iou_sum, DQ, SQ, PQ, recall, n_true. NaN
        where a bin gives 0/0. Of `Several` the bins of each set, one set after another.
    """
    return _binned(records, "d_um", edges, border)


def by_quantile(records: Records, bins: int = 4, border: bool = True) -> pd.DataFrame:
    """`by_size` with as many true nuclei in each bin: edges at the quantiles of the true diameters, rounded to 0.01 um.

    A second view: it resolves the sizes that the data set has, but bins of two data sets are not the same sizes.
    """
    nuclei = records.nuclei
    d = nuclei.loc[(nuclei["side"] == "true").to_numpy(), "d_um"].to_numpy(np.float64)
    edges = np.quantile(d, np.arange(1, bins) / bins).round(2) if len(d) else np.zeros(0)
    edges = np.unique(edges)
    if bins < 2 or not len(edges):
        raise ValueError(f"{bins} bins over {len(d)} true nuclei, expected at least 2 bins and a true nucleus")
    return _binned(records, "d_um", tuple(edges), border)


def by_crowding(records: Records, edges: tuple[float, ...] = NEIGHBOUR_EDGES, border: bool = True) -> pd.DataFrame:
    """`by_size`, but per bin of the distance to the nearest neighbour of the same side (centroids, um).

    A nucleus alone in its image belongs to the last bin. Small distances are crowded tissue, small nuclei, or both.
    """
    return _binned(records, "neighbour_um", edges, border)


def by_touching(records: Records, border: bool = True) -> pd.DataFrame:
    """`by_size` for nuclei that stand "free" and those "touching" another one of their side, corners included."""
    table = _pooled(records, lambda nuclei: column(nuclei, "touching").astype(np.int64), ["free", "touching"], border)
    return table.rename_axis("bin").reset_index()


def by_type(records: Records, classes: list[str], border: bool = True) -> pd.DataFrame:
    """The same per majority type: TP and FN go to the true type, FP to the predicted one; a pair counts
    whatever type the prediction has. Images without real types are left out.

    Returns:
        A row per class: type, tp, fp, fn, iou_sum, DQ, SQ, PQ, recall, n_true.
    """
    images = records.columns.images
    usable = images["typed"] & images["pred_typed"]

    def group(nuclei):
        type_ = nuclei["type"].astype(int)
        return np.where((type_ > 0) & (type_ <= len(classes)), type_ - 1, -1)

    return _pooled(records, group, classes, border, usable).rename_axis("type").reset_index()


def confusion(records: Records, classes: list[str]) -> pd.DataFrame:
    """Counts of paired nuclei (IoU > 0.5) by true type (rows) and predicted type (columns), with "none" for
    a nucleus without partner, "untyped" for type 0 and "other" for types beyond the classes (see `extra_labels`).
    Images without real types are left out."""
    known = records.images.loc[records.images["typed"] & records.images["pred_typed"], "image"]
    nuclei = records.nuclei[records.nuclei["image"].isin(known)]
    nuclei = nuclei.assign(type=np.minimum(nuclei["type"].astype(int), len(classes) + 1))
    true, pred = nuclei[nuclei["side"] == "true"], nuclei[nuclei["side"] == "pred"]
    pairs = true[true["match"] > 0].merge(
        pred[["image", "id", "type"]],
        left_on=["image", "match"],
        right_on=["image", "id"],
        suffixes=("", "_pred"),
    )
    untyped, other, none = extra_labels(classes)
    names = [untyped, *classes, other, none]
    table = np.zeros((len(names), len(names)), np.int64)
    np.add.at(table, (pairs["type"].to_numpy(), pairs["type_pred"].to_numpy()), 1)
    np.add.at(table, (true.loc[true["match"] == 0, "type"].to_numpy(), -1), 1)
    np.add.at(table, (-1, pred.loc[pred["match"] == 0, "type"].to_numpy()), 1)
    frame = pd.DataFrame(table, index=names, columns=names)
    used = [n for n in names if n != other or frame.loc[n].any() or frame[n].any()]
    return frame.loc[used, used].rename_axis(index="true", columns="pred")


def extra_labels(classes: list[str]) -> tuple[str, str, str]:
    """What stands beside the classes: "untyped", "other" and "none", in brackets where a class is called so."""
    out = []
    for label in ("untyped", "other", "none"):
        while label in classes:
            label = f"({label})"
        out.append(label)
    return tuple(out)


def _pooled(records: Records, group, names: list[str], border: bool, usable: np.ndarray | None = None) -> pd.DataFrame:
    """A row per name, of `Several` per set and name, indexed by the names.

    Args:
        group: function of a side's nuclei (column name -> array) to int64 (N,): position in `names`, or below 0 = none.
        usable: bool (n,), the images that count; None: all.
    """
    size = records.sets * len(names)
    of_side = {}
    for side, nuclei in records.columns.side.items():
        bins = group(nuclei)
        kept = bins >= 0
        if not border:
            kept = kept & ~nuclei["border"]
        if usable is not None:
            kept = kept & usable[nuclei["image"]]
        if records.sets > 1:
            bins = bins + records.set_of_image[nuclei["image"]] * len(names)
        of_side[side] = bins, kept & (nuclei["match"] > 0), kept & (nuclei["match"] <= 0)
    bins, paired, alone = of_side["true"]
    tp, fn = (np.bincount(bins[mask], minlength=size) for mask in (paired, alone))
    iou = np.bincount(bins[paired], weights=records.columns.side["true"]["iou"][paired], minlength=size)
    bins, _, alone = of_side["pred"]
    fp = np.bincount(bins[alone], minlength=size)
    tally = Tally(tp, fp, fn, iou.astype(np.float64))
    dq, sq, pq = tally.quality(sq_eps=0.0)
    pq = np.where(tp + fp + fn > 0, np.nan_to_num(pq), np.nan)  # no pair at all is a PQ of 0; only SQ is undefined
    with np.errstate(invalid="ignore"):
        recall = tp / (tp + fn)
    columns = {"tp": tp, "fp": fp, "fn": fn, "iou_sum": tally.iou, "DQ": dq, "SQ": sq, "PQ": pq}
    return pd.DataFrame({**columns, "recall": recall, "n_true": tp + fn}, index=names * records.sets)


def _binned(records: Records, name: str, edges, border: bool) -> pd.DataFrame:
    edges = [float(e) for e in edges]
    if not edges or any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"edges are {edges}, expected ascending numbers in um")
    text = [f"{e:g}" for e in edges]
    names = [f"<{text[0]}", *(f"{a}-{b}" for a, b in pairwise(text)), f">={text[-1]}"]
    # digitize puts NaN, the distance of a nucleus that is alone, above every edge
    table = _pooled(records, lambda nuclei: np.digitize(column(nuclei, name), edges), names, border)
    return table.rename_axis("bin").reset_index()


def column(nuclei: Table, name: str) -> np.ndarray:
    """A column of nuclei; ValueError where older records lack it."""
    if name not in nuclei:
        raise ValueError(f"these records hold no '{name}' (they were written by an older version): make the run anew")
    return np.asarray(nuclei[name])
