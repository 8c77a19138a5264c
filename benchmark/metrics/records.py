"""Records of matched images: tables of images, overlaps and nuclei, from which every metric is computed."""

import os
import secrets
from collections.abc import Mapping
from functools import cached_property, wraps
from pathlib import Path

import numpy as np
import pandas as pd

from .derived import diameter_um, foreground, ids, neighbour_um
from .match import Match
from .rle import dense

VERSION = 2  # raised when a stored column changes its meaning or a protocol needs one that older records lack
TABLES = ("images", "overlaps", "nuclei")
# kinds of dtype of the columns on which scores compute; of parquet files that are damaged or of another program
_KINDS = {
    "images": {"image": "iu", "n_true": "iu", "n_pred": "iu", "mpp": "f", "typed": "b", "pred_typed": "b"},
    "overlaps": {"image": "iu", "true_id": "iu", "true_type": "iu", "pred_id": "iu", "pred_type": "iu", "pixels": "iu"},
    "nuclei": {"image": "iu", "id": "iu", "type": "iu", "area": "iu", "match": "iu", "border": "b", "iou": "f"},
}
_KINDS["nuclei"] |= {"points": "b", "touching": "b", "x": "f", "y": "f", "d_um": "f", "neighbour_um": "f"}
_KINDS["images"] |= dict.fromkeys(("height", "width", "true_pixels", "pred_pixels", "both_pixels"), "iu")
_KINDS["images"] |= dict.fromkeys(("image_id", "tissue", "source"), "OUT")
_SIDES = pd.CategoricalDtype(["true", "pred"])
Table = pd.DataFrame | Mapping  # of columns: name -> array


class Records:
    """Three tables over a set of images; `image` is the key that joins them.

    Metrics compute on `columns`, plain arrays; a DataFrame is built at first access, which costs more than to score one
    image.

    Args:
        images, overlaps, nuclei: each a DataFrame, or its columns by name.

    Attributes:
        images: DataFrame, a row per image: image, image_id, tissue, source, typed (the truth holds real types),
            pred_typed (the predictor names types), height, width (px), mpp (um/px), n_true, n_pred, and the
            pixel counts true_pixels, pred_pixels, both_pixels of the foregrounds.
        overlaps: the joint histogram: image, true_id, true_type, pred_id, pred_type, pixels (id 0 =
            background).
        nuclei: a row per nucleus, by image, side and id: image, side ("true" | "pred"), id, type (by
            majority of pixels), area (px), d_um (equivalent diameter, um), x, y (centroid, px), border,
            match (partner's id with IoU > 0.5, 0 = none), iou (with the partner, else the largest with any
            nucleus), points (outline of at least three points), touching (another nucleus of its side, corners
            included), neighbour_um (distance between its centroid and the nearest other one of its side and
            image, um; NaN when it is alone), solidity, eccentricity (NaN where not computed).
    """

    def __init__(self, images: Table, overlaps: Table, nuclei: Table):
        self._tables = dict(zip(TABLES, (images, overlaps, nuclei), strict=True))
        self._known = {}

    @property
    def images(self) -> pd.DataFrame:
        return self._frame("images")

    @property
    def overlaps(self) -> pd.DataFrame:
        return self._frame("overlaps")

    @property
    def nuclei(self) -> pd.DataFrame:
        return self._frame("nuclei")

    def _frame(self, name: str) -> pd.DataFrame:
        table = self._tables[name]
        if not isinstance(table, pd.DataFrame):
            table = self._tables[name] = pd.DataFrame(table)
        return table

    @classmethod
    def collect(cls, matches: list[Match], meta: list[dict]) -> "Records":
        """Join matches of images.

        Args:
            matches: one Match per image.
            meta: one dict per image: image (int, ascending and unique), and optionally image_id, tissue,
                source, typed (True), pred_typed. Where pred_typed is not given it is False when nuclei were
                predicted and none of the whole collection has a type.

        Raises:
            ValueError: matches and meta of different length, or image numbers not ascending.
        """
        matches = list(matches)
        if len(matches) != len(meta):
            raise ValueError(f"{len(matches)} matches and {len(meta)} rows of meta, expected as many of each")
        number = np.array([row["image"] for row in meta], np.int64)
        if np.any(np.diff(number) <= 0):
            raise ValueError("meta holds image numbers out of order or twice, expected them ascending")
        nuclei = _nuclei(matches, number)
        overlaps = _overlaps(matches, number)
        predicted = _is_pred(nuclei)
        names_types = bool(not predicted.any() or nuclei["type"][predicted].any())
        images = {
            "image": number.astype(np.int32),
            **{k: [str(row.get(k, "")) for row in meta] for k in ("image_id", "tissue", "source")},
            "typed": np.array([row.get("typed", True) for row in meta], bool),
            "pred_typed": np.array([row.get("pred_typed", names_types) for row in meta], bool),
            "height": np.array([m.shape[0] for m in matches], np.int32),
            "width": np.array([m.shape[1] for m in matches], np.int32),
            "mpp": np.array([m.mpp for m in matches], np.float64),
            "n_true": np.array([len(m.true) for m in matches], np.int32),
            "n_pred": np.array([len(m.pred) for m in matches], np.int32),
            **foreground(overlaps, number),
        }
        return cls(images, overlaps, nuclei)

    @classmethod
    def join(cls, parts: list["Records"]) -> "Records":
        """Several sets as one, images numbered anew: folds pooled.

        Raises:
            ValueError: no parts.
        """
        if not parts:
            raise ValueError("no records to join, expected at least one set")
        tables = {name: [] for name in TABLES}
        taken = 0
        for part in parts:
            number = part.images["image"].to_numpy()
            for name in TABLES:
                table = getattr(part, name)
                place = np.searchsorted(number, table["image"].to_numpy()) + taken
                tables[name].append(table.assign(image=place.astype(np.int32)))
            taken += len(number)
        return cls(*(pd.concat(tables[name], ignore_index=True) for name in TABLES))

    def save(self, folder: Path) -> None:
        """Write images.parquet, overlaps.parquet and nuclei.parquet (zstd); each is whole or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            target = folder / f"{name}.parquet"
            # as `runtime.files` names what is half-written; the process's number alone may be that of another machine's
            temporary = folder / f".{name}.parquet.{os.getpid()}-{secrets.token_hex(4)}.tmp"
            try:
                getattr(self, name).to_parquet(temporary, engine="pyarrow", compression="zstd", index=False)
                os.replace(temporary, target)
            except OSError as error:
                if error.errno is not None and not error.filename:
                    error.filename = str(target)  # a write that fails does not say where
                raise
            finally:
                temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> "Records":
        """Read what `save` wrote.

        Raises:
            ValueError: a table is absent or damaged, or the tables do not belong together.
        """
        import pyarrow.parquet as pq

        folder = Path(folder)
        missing = [name for name in TABLES if not (folder / f"{name}.parquet").is_file()]
        if missing:
            raise ValueError(f"'{folder}' holds no {missing[0]}.parquet, expected the records of a finished run")
        tables = {}
        for name in TABLES:
            try:
                # pandas.read_parquet gives the same in twice the time
                with pq.ParquetFile(folder / f"{name}.parquet") as file:
                    tables[name] = file.read(use_threads=False).to_pandas(use_threads=False)
            except Exception as error:  # pyarrow and pandas stumble over damaged bytes in any way
                raise ValueError(f"{name}.parquet cannot be read ({error!s:.200})") from error
            for column, kinds in _KINDS[name].items():
                kind = tables[name][column].dtype.kind if column in tables[name] else "no such column"
                if kind not in kinds:
                    raise ValueError(f"{name}.parquet is damaged: its column '{column}' is of kind {kind}")
        _check_joins(**tables)
        return cls(*tables.values())

    @cached_property
    def columns(self) -> "Columns":
        """The tables as arrays with images numbered 0..n-1 (cached)."""
        return Columns(*self._tables.values())

    def once(self, key, compute):
        """compute(), remembered under `key` for as long as these records live: several scores share it."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


def remembered(function):
    """Decorator for function(records): computed once per Records, since several protocols share it."""

    @wraps(function)
    def once(records: Records):
        return records.once(function, lambda: function(records))

    return once


class Columns:
    """Records as plain arrays, joined: what metrics compute on.

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

    def __init__(self, images: Table, overlaps: Table, nuclei: Table):
        self.images = {name: np.asarray(images[name]) for name in images}
        number = self.images["image"]
        self.n = len(number)
        self.image = np.searchsorted(number, np.asarray(overlaps["image"]))
        self.pixels, self.true_type, self.pred_type = (
            np.asarray(overlaps[name]).astype(np.int64) for name in ("pixels", "true_type", "pred_type")
        )
        of_nuclei = {name: np.asarray(nuclei[name]) for name in nuclei if name != "side"}
        of_nuclei["image"] = np.searchsorted(number, of_nuclei["image"])
        is_pred = _is_pred(nuclei)
        self.side = {}
        for name, chosen in (("true", ~is_pred), ("pred", is_pred)):
            self.side[name] = {column: values[chosen] for column, values in of_nuclei.items()}
            setattr(self, name, self._position(self.side[name], np.asarray(overlaps[f"{name}_id"])))

    def _position(self, rows: dict, ids: np.ndarray) -> np.ndarray:
        """int64 (K,): position 1.. in `rows` of the nucleus of each overlap row, 0 where ids (K,) is 0.

        Ids are compared by rank, since image x id may not fit 64 bits.
        """
        distinct, rank = dense(np.concatenate([rows["id"], ids]).astype(np.int64))
        of_rows, of_ids = rank[: len(rows["id"])], rank[len(rows["id"]) :]
        known = rows["image"] * len(distinct) + of_rows
        return np.where(ids > 0, np.searchsorted(known, self.image * len(distinct) + of_ids) + 1, 0)


def _check_joins(images: Table, overlaps: Table, nuclei: Table) -> None:
    """Raises ValueError where a row is of an image or a nucleus that no other table has."""
    number = np.asarray(images["image"])
    if (number[1:] <= number[:-1]).any():
        raise ValueError("images.parquet is damaged: its images are not in ascending order")
    if "side" not in nuclei or not nuclei["side"].isin(["true", "pred"]).all():
        raise ValueError("nuclei.parquet is damaged: its column 'side' holds something else than true and pred")
    for name, rows in (("overlaps", overlaps), ("nuclei", nuclei)):
        if not np.isin(rows["image"], number).all():
            raise ValueError(f"{name}.parquet is damaged: it has an image that images.parquet lacks")
    is_pred = _is_pred(nuclei)
    for side, chosen in (("true", ~is_pred), ("pred", is_pred)):
        of_nuclei = np.asarray(nuclei["id"])[chosen].astype(np.int64)
        of_overlaps = np.asarray(overlaps[f"{side}_id"]).astype(np.int64)
        named = of_overlaps != 0
        distinct, rank = dense(np.concatenate([of_nuclei, of_overlaps[named]]).clip(0))
        image = np.concatenate([np.asarray(nuclei["image"])[chosen], np.asarray(overlaps["image"])[named]])
        key = np.searchsorted(number, image) * len(distinct) + rank  # by rank, since image x id may not fit 64 bits
        own, others = np.sort(key[: len(of_nuclei)]), key[len(of_nuclei) :]
        if (own[1:] == own[:-1]).any() or (of_nuclei <= 0).any():
            raise ValueError("nuclei.parquet is damaged: it has a nucleus twice or an id that is none")
        place = np.minimum(np.searchsorted(own, others), max(len(own) - 1, 0))
        lacking = len(others) > 0 and (len(own) == 0 or (own[place] != others).any())
        if lacking or (of_overlaps < 0).any():
            raise ValueError(
                f"overlaps.parquet is damaged: it has a nucleus of side '{side}' that nuclei.parquet lacks"
            )


def _is_pred(nuclei: Table) -> np.ndarray:
    """bool (N,): nuclei of the side "pred"."""
    return np.asarray(nuclei["side"] == "pred")


def _overlaps(matches: list[Match], number: np.ndarray) -> dict:
    def joined(name, dtype):
        return np.concatenate([np.zeros(0, dtype), *(getattr(m, name).astype(dtype) for m in matches)])

    return {
        "image": np.repeat(number, [len(m.pixels) for m in matches]).astype(np.int32),
        "true_id": ids([m.true_id for m in matches]),
        "true_type": joined("true_type", np.uint8),
        "pred_id": ids([m.pred_id for m in matches]),
        "pred_type": joined("pred_type", np.uint8),
        "pixels": joined("pixels", np.int32),
    }


def _nuclei(matches: list[Match], number: np.ndarray) -> dict:
    sides = [side for m in matches for side in (m.true, m.pred)]
    sizes = np.array([len(s) for s in sides], np.int64)

    def joined(name, dtype):
        return np.concatenate([np.zeros(0, dtype), *(getattr(s, name).astype(dtype) for s in sides)])

    area, x, y = joined("area", np.int32), joined("x", np.float64), joined("y", np.float64)
    mpp = np.repeat(np.repeat([m.mpp for m in matches], 2), sizes)
    return {
        "image": np.repeat(np.repeat(number, 2), sizes).astype(np.int32),
        "side": pd.Categorical.from_codes(np.repeat(np.tile([0, 1], len(matches)), sizes), dtype=_SIDES),
        "id": ids([s.id for s in sides]),
        "type": joined("type", np.uint8),
        "area": area,
        "d_um": diameter_um(area, mpp),
        "x": x,
        "y": y,
        "border": joined("border", bool),
        "match": ids([s.partner for s in sides]),
        "iou": joined("iou", np.float64),
        "points": joined("points", bool),
        "touching": joined("touching", bool),
        "neighbour_um": neighbour_um(x, y, sizes, mpp),
        "solidity": joined("solidity", np.float32),
        "eccentricity": joined("eccentricity", np.float32),
    }
