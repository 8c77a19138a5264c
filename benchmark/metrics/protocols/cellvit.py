"""The evaluation of CellViT and CellVTA on PanNuke (Hörst et al. 2024)."""

import numpy as np
import pandas as pd

from ..detection import Points, pair, scores, type_counts, type_scores
from ..overlap import dice, jaccard
from ..panoptic import tally
from ..records import Records
from .base import Protocol, both_typed, frame, summarise, tissue_names, typed


class CellViT(Protocol):
    """Predictions have one type each (by majority) and must have an outline; the truth keeps its map whole.

    Predicted nuclei: those with an outline of at least three points (outline.py), less the lowest id of an
    image whose prediction leaves no background (the published decoder takes it for the background).
    Panoptic: IoU > 0.5, DQ = tp / (tp + fp/2 + fn/2 + 1e-6), SQ = sum IoU / (tp + 1e-6). bPQ: true instances
    against predicted nuclei with a type; per type 0..C: the type's pixels of each true instance against
    predictions of that type. Type 0 counts as a class of mPQ where a true instance holds untyped pixels. NaN
    where the truth holds one value only: nothing, or one nucleus over the whole image. mPQ of an image: mean
    over types. Set: means over images.
    Detection: Hungarian pairing of all centroids, pairs beyond 12 px dropped (6 px where mpp >= 0.375, that
    is x20); an empty side becomes one nucleus of type 0 at (0, 0); true nuclei obey the outline rule too.
    Counts pooled over images; per-type scores count confusions twice (detection.type_scores).
    Dice is 0 when the truth is empty, even if both are; Jaccard is NaN when both are empty.

    The published code fails on a batch without any pair and on a truth without background; the definitions
    above hold there. A predictor without types enters bPQ with all its nuclei. AJI (HoVer-Net's) is not part
    of the protocol: an image mean.
    """

    name, version = "cellvit", 1

    def images(self, records: Records, n_classes: int) -> pd.DataFrame:
        """Adds DQ, SQ and PQ of type 0, and n_true, n_pred, n_paired, the detection counts with dummies."""
        return self._images(records, n_classes, self.pairs(records))

    def _images(self, records: Records, n_classes: int, pairs: tuple) -> pd.DataFrame:
        columns = records.columns
        n, image, pixels, true = columns.n, columns.image, columns.pixels, columns.true
        whole = records.images["height"].to_numpy().astype(np.int64) * records.images["width"].to_numpy()
        kept, type_ = _kept(records, "pred"), columns.side["pred"]["type"]
        has_types = typed(records, "pred", n_classes)[columns.side["pred"]["image"]]
        tallies, scored = {}, {}
        for k in range(n_classes + 1):
            of_true = (columns.true_type == k) & (true > 0)
            pred = _select(columns.pred, kept & (type_ == k))
            rows = of_true | (pred > 0)
            of_true = true * of_true
            tallies[k] = tally(image[rows], of_true[rows], pred[rows], pixels[rows], n)
            scored[k] = _several_values(image, of_true, pixels, whole)
        pred = _select(columns.pred, kept & ((type_ > 0) | ~has_types))
        binary = tally(image, true, pred, pixels, n)
        out = frame(records, n_classes, tallies, scored, binary, _several_values(image, true, pixels, whole), eps=1e-6)
        out["Dice"] = np.where(records.images["n_true"] > 0, dice(records), 0.0)
        out["Jaccard"] = jaccard(records)
        true, pred, rows, _ = pairs
        for name, positions in (
            ("n_true", true.image),
            ("n_pred", pred.image),
            ("n_paired", true.image[rows]),
        ):
            out[name] = np.bincount(positions, minlength=n)
        return out

    def pairs(self, records: Records) -> tuple[Points, Points, np.ndarray, np.ndarray]:
        """(true points, predicted points, rows, cols): the detection pairs true[rows] - pred[cols] of all
        images."""
        sides = []
        for name in ("true", "pred"):
            kept, nuclei = _kept(records, name), records.columns.side[name]
            xy = np.stack([nuclei["x"], nuclei["y"]], 1)[kept]
            points = Points(nuclei["image"][kept], xy, nuclei["type"][kept].astype(np.int64))
            sides.append(points.with_dummies(records.columns.n))
        radius = np.where(records.images["mpp"].to_numpy() < 0.375, 12.0, 6.0)
        return (*sides, *pair(*sides, radius))

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """bPQ, bDQ, bSQ, mPQ, mDQ, mSQ, Dice, Jaccard, AJI, PQ_<class> as means over images; F1, precision,
        recall and F1_<class>, precision_<class>, recall_<class> pooled; tissue/<name>/bPQ, mPQ, Dice, Jaccard
        and AJI as means, F1 pooled; tissue_mean/bPQ and tissue_mean/mPQ, the means over the listed tissues
        that the CellViT paper prints."""
        true, pred, rows, cols = pairs = self.pairs(records)
        images = self._images(records, len(classes), pairs)
        means, entries, over_tissues = summarise(images, classes, tissues, ("bPQ", "mPQ", "Dice", "Jaccard", "AJI"))
        headline = {f"tissue_mean/{c}": over_tissues[c] for c in ("bPQ", "mPQ")}
        found = len(rows)
        detection = dict(
            zip(
                ("F1", "precision", "recall"),
                scores(found, len(pred.image) - found, len(true.image) - found),
                strict=True,
            )
        )
        counts = type_counts(*_only(true, pred, rows, cols, both_typed(records, len(classes))), len(classes))
        for score, values in type_scores(counts).items():
            detection.update({f"{score}_{name}": float(v) for name, v in zip(classes, values, strict=True)})
        by_tissue = images.groupby("tissue")[["n_paired", "n_true", "n_pred"]].sum()
        for tissue in tissue_names(images, tissues):
            paired, n_true, n_pred = by_tissue.loc[tissue] if tissue in by_tissue.index else (0, 0, 0)
            entries[f"tissue/{tissue}/F1"] = scores(paired, n_pred - paired, n_true - paired)[0]
        return {**means, **detection, **headline, **entries}


def _kept(records: Records, side: str) -> np.ndarray:
    """bool per nucleus of a side: has an outline, and is not the lowest id of an image without background."""
    columns = records.columns
    nuclei = columns.side[side]
    background = np.bincount(columns.image[getattr(columns, side) == 0], minlength=columns.n) > 0
    lowest = np.ones(len(nuclei["image"]), bool)
    lowest[1:] = nuclei["image"][1:] != nuclei["image"][:-1]
    return nuclei["points"] & ~(lowest & ~background[nuclei["image"]])


def _select(nucleus: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Nucleus of each overlap row where chosen (a mask over the side's nuclei), else 0."""
    return nucleus * np.concatenate([[False], chosen])[nucleus]


def _several_values(image: np.ndarray, nucleus: np.ndarray, pixels: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """bool (n,): images in which the map of these nuclei holds more than one value, background included."""
    n = len(whole)
    inside = nucleus > 0
    area = np.bincount(image[inside], weights=pixels[inside], minlength=n)
    first, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
    np.minimum.at(first, image[inside], nucleus[inside])
    np.maximum.at(last, image[inside], nucleus[inside])
    return (area > 0) & ((area < whole) | (first < last))


def _only(true: Points, pred: Points, rows, cols, chosen: np.ndarray):
    """The same points and pairs, restricted to the chosen images (bool (n,))."""
    in_true, in_pred, in_pair = chosen[true.image], chosen[pred.image], chosen[true.image[rows]]
    to_true, to_pred = np.cumsum(in_true) - 1, np.cumsum(in_pred) - 1
    return (
        Points(true.image[in_true], true.xy[in_true], true.type[in_true]),
        Points(pred.image[in_pred], pred.xy[in_pred], pred.type[in_pred]),
        to_true[rows[in_pair]],
        to_pred[cols[in_pair]],
    )
