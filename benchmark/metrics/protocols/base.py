"""What all protocols share: the columns of images, the aggregations over them, and where they are registered."""

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd

from ..aggregate import AGGREGATIONS, Scores, nanmean
from ..detection import scores
from ..overlap import aji
from ..panoptic import Tally
from ..records import Records

COUNTS = ("tp", "fp", "fn", "iou")
IMAGE_MEANS = ("Dice", "Jaccard", "AJI")

PROTOCOLS: dict[str, "Protocol"] = {}  # by name, in the order of tables: by `place`, then as registered


class Protocol(ABC):
    """A named, versioned way from records to scores.

    Attributes:
        name: key in PROTOCOLS.
        place: tables list protocols by it, ascending.
        version: raised whenever a score may change for the same records.
        made_for: the data on which the protocol was published.
        n_classes: number of classes that the published code assumes; None = any. With another number the same
            definitions apply, but no published value can be compared.
        dq_eps, sq_eps: epsilons in the denominators of DQ and SQ.
        binary, multi: which of `aggregate.AGGREGATIONS` gives the headline bPQ and mPQ.
        of_class: which gives PQ_<class>: "image_mean" or "class_pooled".
        by_image: whether `image_scores` of an image follow from that image alone, to the last bit, so that several sets
            can be scored at once (`records.Several`).
    """

    name: str
    place: int = 100
    version: int
    made_for: str
    n_classes: int | None = None
    dq_eps = 1e-6
    sq_eps = 1e-6
    binary = "image_mean"
    multi = "image_mean"
    of_class = "image_mean"
    by_image = False

    @abstractmethod
    def image_scores(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        """The columns of `images`. It is called once per records and number of classes; see `columns`."""

    def columns(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        """`image_scores`, remembered with the records. Not to be changed by who gets it."""
        return records.once((self, n_classes), lambda: self.image_scores(records, n_classes))

    def images(self, records: Records, n_classes: int) -> pd.DataFrame:
        """A row per image: image, image_id, tissue, typed, bDQ, bSQ, bPQ, mDQ, mSQ, mPQ, the counts tp, fp, fn, iou
        (sum of the pairs' IoU) of all nuclei, DQ_<k>, SQ_<k>, PQ_<k>, tp_<k>, fp_<k>, fn_<k>, iou_<k> of each type id
        k, Dice, Jaccard, AJI, and what the protocol adds. NaN = the protocol leaves the image out of that mean or
        sum; values that need types are NaN where the truth is untyped or the predictor names no types."""
        return pd.DataFrame(self.columns(records, n_classes))

    @abstractmethod
    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """Scores of the whole set as a flat dict: bPQ, bDQ, bSQ, mPQ, mDQ, mSQ in the published averaging,
        PQ_<class>, Dice, Jaccard, AJI, tissue/<name>/<score>, <aggregation>/bPQ and /mPQ for each of
        `aggregate.AGGREGATIONS`, and what the protocol adds.

        Args:
            classes: names of types 1..C.
            tissues: tissues of the tissue mean. Others are reported under their own name and left out of it.
        """

    def panoptic(self, records: Records, n_classes: int, classes: dict, scored: dict, binary: Tally, binary_scored):
        """The columns of `images` that name it, its panoptic quality and AJI.

        Args:
            classes, scored: per type id the tally and the images (bool) in which the type counts; where an image holds
                no object of the type on either side its quality is NaN.
            binary, binary_scored: the same for all nuclei together.
        """
        out = {c: records.columns.images[c] for c in ("image", "image_id", "tissue", "typed")}
        usable = both_typed(records, n_classes)
        quality = {}
        parts = [("", binary, binary_scored)] + [(f"_{k}", classes[k], scored[k] & usable) for k in classes]
        for suffix, tally, kept in parts:
            names = [f"{q}{suffix}" if suffix else f"b{q}" for q in ("DQ", "SQ", "PQ")]
            scored_here = kept & (tally.tp + tally.fp + tally.fn > 0) if suffix else kept
            values = [np.where(scored_here, v, np.nan) for v in tally.quality(self.dq_eps, self.sq_eps)]
            out.update(zip(names, values, strict=True))
            for count in COUNTS:
                out[f"{count}{suffix}"] = np.where(kept, getattr(tally, count), np.nan)
            if suffix:
                quality[suffix] = values
        for i, name in enumerate(("mDQ", "mSQ", "mPQ")):
            out[name] = nanmean(np.array([q[i] for q in quality.values()]).reshape(len(quality), len(usable)))
        out["AJI"] = aji(records)
        return out

    def means(self, images: dict[str, np.ndarray], classes: list[str], tissues: list[str]) -> dict[str, float]:
        """The keys of `summary` that every protocol has, from its columns of images."""
        of_set = Scores(images, self.dq_eps, self.sq_eps, tissues)
        out = {}
        for what, how in (("b", self.binary), ("m", self.multi)):
            for q in ("PQ", "DQ", "SQ"):
                out[f"{what}{q}"] = of_set.over_images(f"{what}{q}", how)
        out |= {c: nanmean(images[c]) for c in IMAGE_MEANS}
        for k, name in enumerate(classes, start=1):
            out[f"PQ_{name}"] = of_set.of_class(k, self.of_class)
        for how in AGGREGATIONS:
            out |= {f"{how}/bPQ": of_set.over_images("bPQ", how), f"{how}/mPQ": of_set.over_images("mPQ", how)}
        for column in ("bPQ", "mPQ", *IMAGE_MEANS):
            for tissue, value in of_set.by_tissue(column).items():
                out[f"tissue/{tissue}/{column}"] = value
        return out


def register(protocol: type[Protocol]) -> type[Protocol]:
    """Class decorator: puts a protocol into PROTOCOLS.

    Raises:
        ValueError: another one has its name.
    """
    if protocol.name in PROTOCOLS:
        raise ValueError(f"two protocols are called '{protocol.name}', expected a name of its own for each")
    ordered = sorted([*PROTOCOLS.values(), protocol()], key=lambda p: p.place)
    PROTOCOLS.clear()
    PROTOCOLS.update({p.name: p for p in ordered})
    return protocol


def pair_counts(pairs: tuple, n: int) -> dict[str, np.ndarray]:
    """n_true, n_pred, n_paired of each of n images, from the detection pairs (true points, predicted points, rows,
    cols)."""
    true, pred, rows, _ = pairs
    points = {"n_true": true.image, "n_pred": pred.image, "n_paired": true.image[rows]}
    return {name: np.bincount(image, minlength=n) for name, image in points.items()}


def f1_by_tissue(images: dict[str, np.ndarray], tissues: list[str]) -> dict[str, float]:
    """tissue/<name>/F1 from the counts of `pair_counts`, pooled over the images of each tissue."""
    grouped = Scores(images, 0, 0, tissues)
    n_true, n_pred, paired = (grouped.sum_by_tissue(name) for name in ("n_true", "n_pred", "n_paired"))
    f1, _, _ = scores(paired, n_pred - paired, n_true - paired)
    return {f"tissue/{tissue}/F1": value for tissue, value in zip(grouped.tissues, f1.tolist(), strict=True)}


def typed(records: Records, side: str, n_classes: int) -> np.ndarray:
    """bool (n,): images whose "true" or "pred" side has types; none has any where there are no classes."""
    return records.columns.images["typed" if side == "true" else "pred_typed"] & (n_classes > 0)


def both_typed(records: Records, n_classes: int) -> np.ndarray:
    """bool (n,): images in which classes can be scored."""
    return typed(records, "true", n_classes) & typed(records, "pred", n_classes)
