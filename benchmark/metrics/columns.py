"""Records as plain arrays, joined: what metrics compute on."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .rle import dense

Table = pd.DataFrame | Mapping  # of columns: name -> array


class Columns:
    """The three tables of records as arrays, images numbered 0..n-1.

    Args:
        check: raise ValueError where a row is of an image or a nucleus that no other table has. Tables that this
            package made need no check.

    Attributes:
        n: number of images.
        images: dict of arrays (n,), the table of images.
        image (K,), pixels (K,): of each overlap row; image is the position in the table of images.
        true, pred (K,): nucleus of the row as a position 1.. in `side["true"]` / `side["pred"]`, 0 =
            background.
        true_type, pred_type (K,): type of the row's pixels.
        side: {"true", "pred"} -> dict of arrays over that side's nuclei: image, id, type, area, x, y,
            points, border, ...
    """

    true: np.ndarray
    pred: np.ndarray
    pixels: np.ndarray
    true_type: np.ndarray
    pred_type: np.ndarray

    def __init__(self, images: Table, overlaps: Table, nuclei: Table, check: bool = False):
        self.images = {name: np.asarray(images[name]) for name in images}
        number = self.images["image"]
        self.n = len(number)
        of_nuclei = {name: np.asarray(nuclei[name]) for name in nuclei if name != "side"}
        if check:
            _check_images(number, np.asarray(overlaps["image"]), of_nuclei["image"])
            _check_sides(nuclei)
        self.image = _places(number, np.asarray(overlaps["image"]))
        self.pixels, self.true_type, self.pred_type = (
            np.asarray(overlaps[name]).astype(np.int64) for name in ("pixels", "true_type", "pred_type")
        )
        of_nuclei["image"] = _places(number, of_nuclei["image"])
        of_pred = is_pred(nuclei)
        self.side = {}
        for name, chosen in (("true", ~of_pred), ("pred", of_pred)):
            at = np.flatnonzero(chosen)  # faster than the mask where many columns are taken
            self.side[name] = {column: values[at] for column, values in of_nuclei.items()}
            setattr(self, name, self._position(name, np.asarray(overlaps[f"{name}_id"]), check))

    @classmethod
    def join(cls, parts: list["Columns"]) -> "Columns":
        """Several sets as one: images counted on from set to set, `images["image"]` the numbers that they had.

        Args:
            parts: at least one; all with the same columns.
        """
        out = cls.__new__(cls)
        before = np.cumsum([0, *(part.n for part in parts)])
        out.n = int(before[-1])
        out.images = {name: np.concatenate([part.images[name] for part in parts]) for name in parts[0].images}
        out.image = np.concatenate([part.image + first for part, first in zip(parts, before)])
        for name in ("pixels", "true_type", "pred_type"):
            setattr(out, name, np.concatenate([getattr(part, name) for part in parts]))
        out.side = {}
        for name in ("true", "pred"):
            sides = [part.side[name] for part in parts]
            nuclei = {column: np.concatenate([side[column] for side in sides]) for column in sides[0]}
            sizes = [len(side["image"]) for side in sides]
            nuclei["image"] = nuclei["image"] + np.repeat(before[:-1], sizes)
            out.side[name] = nuclei
            taken = np.cumsum([0, *sizes])
            of_rows = [getattr(part, name) for part in parts]
            setattr(out, name, np.concatenate([rows + n * (rows > 0) for rows, n in zip(of_rows, taken)]))
        return out

    def _position(self, name: str, ids: np.ndarray, check: bool) -> np.ndarray:
        """int64 (K,): position 1.. in `side[name]` of the nucleus of each overlap row, 0 where ids (K,) is 0.

        Ids are compared by rank, since image x id may not fit 64 bits.
        """
        rows = self.side[name]
        if check:
            _check_ids(name, rows["id"], ids)
        first = np.searchsorted(rows["image"], np.arange(self.n + 1))
        if _counted(rows["image"], rows["id"], first):
            place = first[self.image] + ids  # one more than in `rows`
            if check and (place > first[self.image + 1]).any():
                raise _lacking(name)
            return np.where(ids > 0, place, 0)
        distinct, rank = dense(np.concatenate([rows["id"], ids]).astype(np.int64))
        of_rows, of_ids = rank[: len(rows["id"])], rank[len(rows["id"]) :]
        known, wanted = rows["image"] * len(distinct) + of_rows, self.image * len(distinct) + of_ids
        place = np.searchsorted(known, wanted)
        if check:
            _check_joins(name, known, wanted[ids > 0], place[ids > 0])
        return np.where(ids > 0, place + 1, 0)


def is_pred(nuclei: Table) -> np.ndarray:
    """bool (N,): nuclei of the side "pred"."""
    return np.asarray(nuclei["side"] == "pred")


def _places(number: np.ndarray, image: np.ndarray) -> np.ndarray:
    """int64 (K,): position in number (n,), ascending, of each image number (K,), all of which are there."""
    if len(number) and int(number[-1]) - int(number[0]) == len(number) - 1:  # consecutive, as most are
        return image.astype(np.int64) - int(number[0])
    return np.searchsorted(number, image)


def _counted(image: np.ndarray, ids: np.ndarray, first: np.ndarray) -> bool:
    """Whether ids (N,) of nuclei are 1, 2, 3 … in each image, as those of most data are.

    Args:
        image: int64 (N,), position of the nucleus's image; first: int64 (n + 1,), where those of an image begin.
    """
    ascending = (image[1:] >= image[:-1]).all()
    return bool(ascending and (ids == np.arange(1, len(ids) + 1) - first[image]).all())


def _check_images(number: np.ndarray, of_overlaps: np.ndarray, of_nuclei: np.ndarray) -> None:
    """Raises ValueError where image numbers (n,) do not ascend, or a row's is none of them."""
    if (number[1:] <= number[:-1]).any():
        raise ValueError("images.parquet is damaged: its images are not in ascending order")
    for name, image in (("overlaps", of_overlaps), ("nuclei", of_nuclei)):
        if not np.isin(image, number).all():
            raise ValueError(f"{name}.parquet is damaged: it has an image that images.parquet lacks")


def _check_sides(nuclei: Table) -> None:
    """Raises ValueError where a nucleus is of another side than "true" and "pred"."""
    if "side" not in nuclei or not np.asarray((nuclei["side"] == "true") | (nuclei["side"] == "pred")).all():
        raise ValueError("nuclei.parquet is damaged: its column 'side' holds something else than true and pred")


def _check_ids(name: str, of_nuclei: np.ndarray, of_overlaps: np.ndarray) -> None:
    """Raises ValueError where an id of a side is none: below 1, of an overlap row below 0."""
    if (of_nuclei <= 0).any():
        raise ValueError("nuclei.parquet is damaged: it has a nucleus twice or an id that is none")
    if (of_overlaps < 0).any():
        raise _lacking(name)


def _check_joins(name: str, known: np.ndarray, wanted: np.ndarray, place: np.ndarray) -> None:
    """Raises ValueError where a nucleus of side `name` occurs twice, or an overlap row's is not there.

    Args:
        known: int64 (N,), image and id of each nucleus as one number.
        wanted: int64 (K,), the same of overlap rows; place: int64 (K,), where known has them, if it ascends.
    """
    if not (known[1:] > known[:-1]).all():
        known = np.sort(known)
        if (known[1:] == known[:-1]).any():
            raise ValueError("nuclei.parquet is damaged: it has a nucleus twice or an id that is none")
        place = np.searchsorted(known, wanted)
    if len(wanted) and (not len(known) or (known[np.minimum(place, len(known) - 1)] != wanted).any()):
        raise _lacking(name)


def _lacking(name: str) -> ValueError:
    return ValueError(f"overlaps.parquet is damaged: it has a nucleus of side '{name}' that nuclei.parquet lacks")
