"""Records of matched images: tables of images, overlaps and nuclei, from which every metric is computed."""

import os
import secrets
from functools import cached_property, wraps
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from .columns import Columns, Table, is_pred
from .derived import diameter_um, foreground, ids, neighbour_um
from .match import Match
from .stored import Stored, read

VERSION = 2  # raised when a stored column changes its meaning or a protocol needs one that older records lack
TABLES = ("images", "overlaps", "nuclei")
_SIDES = pd.CategoricalDtype(["true", "pred"])


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
        sets: how many sets these are, see `Several`.
    """

    sets = 1

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
            table = self._tables[name] = table.frame() if isinstance(table, Stored) else pd.DataFrame(table)
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
        predicted = is_pred(nuclei)
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
        records = cls(*read(Path(folder), TABLES).values())
        records.columns = Columns(*records._tables.values(), check=True)
        return records

    @cached_property
    def columns(self) -> Columns:
        """The tables as arrays with images numbered 0..n-1 (cached)."""
        return Columns(*self._tables.values())

    def once(self, key, compute):
        """compute(), remembered under `key` for as long as these records live: several scores share it."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


class Several(Records):
    """Sets of records as one, in their order: what is computed of each image by itself is computed of all at once.

    A set has tens of images, for which the calls cost more than their arithmetic. Other than in `Records.join`, which
    makes the three tables too where somebody asks for them, the images keep their numbers in `columns.images`.

    Args:
        parts: at least one set; all of them `alike`.

    Attributes:
        set_of_image: int64 (n,), position of each image's set in `parts`.
    """

    def __init__(self, parts: list[Records]):
        super().__init__({}, {}, {})
        self.sets, self._parts = len(parts), parts
        self.columns = Columns.join([part.columns for part in parts])
        self.set_of_image = np.repeat(np.arange(len(parts)), [part.columns.n for part in parts])

    def _frame(self, name: str) -> pd.DataFrame:
        return self.once(Records.join, lambda: Records.join(self._parts))._frame(name)


def alike(records: Records) -> tuple | None:
    """What records must have in common to be joined as `Several` without a change in any bit; None: they stay alone."""
    images, true = records.columns.images, records.columns.side["true"]
    texts = [values for values in images.values() if values.dtype.kind in "OU"]
    # a sum over the types of one image alone is added up in another order than that of images side by side
    if records.columns.n < 2 or any(infer_dtype(text, skipna=False) != "string" for text in texts):
        return None
    columns = [item for table in (images, true) for item in table.items()]
    return tuple((name, "text" if values.dtype.kind in "OU" else values.dtype.str) for name, values in columns)


def remembered(function):
    """Decorator for function(records): computed once per Records, since several protocols share it."""

    @wraps(function)
    def once(records: Records):
        return records.once(function, lambda: function(records))

    return once


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
