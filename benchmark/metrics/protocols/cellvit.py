"""The evaluation of CellViT and CellVTA: on PanNuke (Hörst et al. 2024), and CellVTA's own on CoNIC."""

import numpy as np

from ..detection import in_images, scores, type_counts, type_scores
from ..overlap import dice, jaccard
from ..panoptic import tally
from ..records import Records
from .base import Protocol, both_typed, f1_by_tissue, pair_counts, register, typed
from .objects import has_outline, pairs_within, pieces, several_values


@register
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

    name, place, version = "cellvit", 20, 1
    made_for, n_classes = "PanNuke", 5
    by_image = True

    def image_scores(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        """Adds the scores and counts of type 0, and n_true, n_pred, n_paired, the detection counts with dummies."""
        columns = records.columns
        n, image, pixels, true = columns.n, columns.image, columns.pixels, columns.true
        whole = columns.images["height"].astype(np.int64) * columns.images["width"]
        by_type, of_type, all_typed = self.objects(records, n_classes)
        tallies, scored = {}, {}
        for k in range(n_classes + 1):
            of_true, pred = by_type * (columns.true_type == k), of_type(k)
            rows = np.flatnonzero((of_true > 0) | (pred > 0))
            where, of_true, covered = image[rows], of_true[rows], pixels[rows]
            tallies[k] = tally(where, of_true, pred[rows], covered, n)
            scored[k] = several_values(where, of_true, covered, whole)
        binary = tally(image, true, all_typed, pixels, n)
        out = self.panoptic(records, n_classes, tallies, scored, binary, several_values(image, true, pixels, whole))
        out["Dice"] = np.where(columns.images["n_true"] > 0, dice(records), 0.0)
        out["Jaccard"] = jaccard(records)
        return out | pair_counts(self.pairs(records), n)

    def objects(self, records: Records, n_classes: int):
        """Of each overlap row: (true nucleus for the per-type scores, function of a type -> predicted object,
        predicted object for bPQ); 0 = none."""
        columns = records.columns
        nuclei, kept = columns.side["pred"], has_outline(records, "pred")
        has_types = typed(records, "pred", n_classes)[nuclei["image"]]

        type_ = np.append(-1, np.where(kept, nuclei["type"].astype(np.int64), -1))[columns.pred]

        def of_type(k):
            return columns.pred * (type_ == k)

        return columns.true, of_type, _select(columns.pred, kept & ((nuclei["type"] > 0) | ~has_types))

    def radius(self, records: Records) -> np.ndarray:
        """float64 (n,) px: how far apart the centroids of a detection pair may lie."""
        return np.where(records.columns.images["mpp"] < 0.375, 12.0, 6.0)

    def pairs(self, records: Records):
        """(true points, predicted points, rows, cols): the detection pairs true[rows] - pred[cols] of all
        images."""
        return pairs_within(records, self.radius(records))

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """Adds F1, precision, recall and F1_<class>, precision_<class>, recall_<class>, pooled over images, and
        tissue/<name>/F1. tissue_mean/bPQ and tissue_mean/mPQ are what the CellViT paper prints."""
        images = self.columns(records, len(classes))
        out = self.means(images, classes, tissues)
        out |= published_detection(self.pairs(records), classes, both_typed(records, len(classes)))
        return out | f1_by_tissue(images, tissues)


@register
class CellVTAConic(CellViT):
    """CellVTA's evaluation on CoNIC: as `cellvit`, but on pixel type maps and always with the radius of x40.

    Predicted objects are (id, type) pieces, with neither majority vote nor outline rule; pieces of type 0 meet the
    untyped pixels of the truth. bPQ: true instances whole against predicted pieces, so that a predicted nucleus of
    mixed type counts once per type. Ids pass through float32, except those of the truth in bPQ: beyond 2**24
    neighbouring ids fall together.
    Detection: as `cellvit` with 12 px whatever the magnification, twice the x20 rule on CoNIC's 0.5 um/px.

    The published script also paints the first predicted nucleus of an image with id 0, that is as background. That was
    read, not measured, and is not part of this protocol. It fails on a truth, or one type of it, without background;
    the definitions above hold there.
    """

    name, place, version = "cellvta_conic", 30, 1
    made_for, n_classes = "CoNIC", 6

    def objects(self, records: Records, n_classes: int):
        columns = records.columns
        has_types = typed(records, "pred", n_classes)[columns.image]
        merged = _as_float32(columns, "pred")

        def of_type(k):
            return merged * (columns.pred_type == k)

        return _as_float32(columns, "true"), of_type, pieces(merged, columns.pred_type, has_types, n_classes)

    def radius(self, records: Records) -> np.ndarray:
        return np.full(records.columns.n, 12.0)


def published_detection(pairs: tuple, classes: list[str], usable: np.ndarray) -> dict[str, float]:
    """F1, precision, recall of all images, and of each class in the usable ones (bool (n,))."""
    true, pred, rows, _ = pairs
    paired = len(rows)
    values = scores(paired, len(pred.image) - paired, len(true.image) - paired)
    out = dict(zip(("F1", "precision", "recall"), values, strict=True))
    counts = type_counts(*in_images(*pairs, usable), len(classes))
    for score, of_class in type_scores(counts).items():
        out |= {f"{score}_{name}": float(v) for name, v in zip(classes, of_class, strict=True)}
    return out


def _select(nucleus: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Nucleus of each overlap row where chosen (a mask over the side's nuclei), else 0."""
    return nucleus * np.concatenate([[False], chosen])[nucleus]


def _as_float32(columns, side: str) -> np.ndarray:
    """Nucleus of each overlap row, nuclei whose ids are one float32 number merged."""
    nuclei, of_row = columns.side[side], getattr(columns, side)
    ids = nuclei["id"]
    if ids.max(initial=0) <= 2**24:
        return of_row
    rounded = ids.astype(np.float32)
    first = np.ones(len(ids), bool)  # ids ascend within an image, and so do their float32 values
    first[1:] = (rounded[1:] != rounded[:-1]) | (nuclei["image"][1:] != nuclei["image"][:-1])
    return np.concatenate([[0], np.cumsum(first)])[of_row]
