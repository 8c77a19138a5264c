"""What all protocols share: the frame per image, means that skip NaN, means per tissue."""

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd

from ..overlap import aji
from ..panoptic import Tally
from ..records import Records


class Protocol(ABC):
    """A named, versioned way from records to scores.

    Attributes:
        name: key in PROTOCOLS.
        version: raised whenever a score may change for the same records.
    """

    name: str
    version: int

    @abstractmethod
    def images(self, records: Records, n_classes: int) -> pd.DataFrame:
        """A row per image: image, image_id, tissue, typed, bPQ, bDQ, bSQ, mPQ, mDQ, mSQ, PQ_<type> for each
        type id, Dice, Jaccard, AJI, and what the protocol adds. NaN = the protocol leaves the image out of
        that mean; values that need types are NaN where the truth is untyped or the predictor names no
        types."""

    @abstractmethod
    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """Scores of the whole set as a flat dict.

        Args:
            classes: names of types 1..C.
            tissues: tissues of the tissue mean. Others are reported under their own name and left out of it.
        """


def frame(
    records: Records,
    n_classes: int,
    classes: dict[int, Tally],
    scored: dict[int, np.ndarray],
    binary,
    binary_scored,
    eps: float,
):
    """Panoptic columns of every image.

    Args:
        classes, scored: per type id the tally and the images (bool) in which the type counts.
        binary, binary_scored: the same for all nuclei together.
        eps: epsilon in the denominator of DQ.
    """
    out = records.images[["image", "image_id", "tissue", "typed"]].copy()
    for name, value in zip(("bDQ", "bSQ", "bPQ"), binary.quality(eps), strict=True):
        out[name] = np.where(binary_scored, value, np.nan)
    usable = both_typed(records, n_classes)
    quality = {k: [np.where(scored[k] & usable, v, np.nan) for v in classes[k].quality(eps)] for k in classes}
    for i, name in enumerate(("mDQ", "mSQ", "mPQ")):
        out[name] = nanmean(np.array([quality[k][i] for k in quality]).reshape(len(quality), len(out)))
    for i, name in enumerate(("DQ", "SQ", "PQ")):
        for k in quality:
            out[f"{name}_{k}"] = quality[k][i]
    out["AJI"] = aji(records)
    return out


def typed(records: Records, side: str, n_classes: int) -> np.ndarray:
    """bool (n,): images whose "true" or "pred" side has types; none has any where there are no classes."""
    return records.images["typed" if side == "true" else "pred_typed"].to_numpy() & (n_classes > 0)


def both_typed(records: Records, n_classes: int) -> np.ndarray:
    """bool (n,): images in which classes can be scored."""
    return typed(records, "true", n_classes) & typed(records, "pred", n_classes)


def nanmean(values: np.ndarray) -> np.ndarray | float:
    """Mean over the first axis without NaN; NaN where nothing is left."""
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(0) / known.sum(0)
    return mean if np.ndim(mean) else float(mean)


def tissue_names(images: pd.DataFrame, tissues: list[str]) -> list[str]:
    """The listed tissues, then the unlisted ones that occur, by name; an unnamed tissue is left out."""
    return [*tissues, *sorted(set(images["tissue"]) - set(tissues) - {""})]


def summarise(images: pd.DataFrame, classes: list[str], tissues: list[str], tissue_columns: tuple[str, ...]):
    """(image means, tissue entries, means over the listed tissues) of a frame of images."""
    means = {
        c: nanmean(images[c].to_numpy()) for c in ("bPQ", "bDQ", "bSQ", "mPQ", "mDQ", "mSQ", "Dice", "Jaccard", "AJI")
    }
    for k, name in enumerate(classes, start=1):
        means[f"PQ_{name}"] = nanmean(images[f"PQ_{k}"].to_numpy())
    of = images["tissue"].to_numpy()
    table = {
        c: {t: nanmean(images[c].to_numpy()[of == t]) for t in tissue_names(images, tissues)} for c in tissue_columns
    }
    entries = {f"tissue/{t}/{c}": v for c, row in table.items() for t, v in row.items()}
    over_tissues = {c: nanmean([row[t] for t in tissues]) for c, row in table.items()}
    return means, entries, over_tissues
