"""Records in a compact form, without loss: what runs on one test fold share, what a run adds; the rest is derived.

Shared ("truth") are the table of images and the true nuclei, a run's own ("own") are the predicted nuclei and the
overlaps of two nuclei. Diameters, distances to neighbours, partners, IoU and overlaps with background follow from these
by the functions of `metrics.derived` that made them. `pack` unpacks at once and compares: a column that would come out
different is stored as it is, and tables that cannot be stored so are refused.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.metrics.columns import Columns
from benchmark.metrics.derived import diameter_um, foreground, ids, neighbour_um, pair_iou, partners
from benchmark.metrics.pairs import sum_by_pair
from benchmark.metrics.records import TABLES, Records

FORM = 1  # of compact runs: raised when what is stored changes its meaning
SIDES = ("true", "pred")
OF_TRUTH = ("image", "image_id", "tissue", "source", "typed", "height", "width", "mpp")
AS_IT_IS = ("type", "area", "border", "points", "touching", "eccentricity")  # nothing else implies them
# stored as they are where deriving them fails; the second follow from the first
REPLACEABLE = (("id", "x", "y", "solidity"), ("d_um", "neighbour_um"))

Frames = dict[str, pd.DataFrame]


class Packed(NamedTuple):
    """Records in compact form.

    Attributes:
        truth: tables "images" and "nuclei" that all runs on the same test images share.
        own: tables "images", "nuclei" and "overlaps" of the run.
        kept: what could not be derived and is stored as it is, such as ["overlaps", "pred x"].
    """

    truth: Frames
    own: Frames
    kept: list[str]


class NotCompact(ValueError):
    """Records that the compact form cannot hold without loss. The message says why."""


def pack(records: Records) -> Packed:
    """The compact form of records that were read from a run.

    Raises:
        NotCompact: columns of an older or another program, or tables that would not come out equal.
    """
    original = {name: getattr(records, name) for name in TABLES}
    empty = Records.collect([], [])
    for name, table in original.items():
        if list(table) != list(getattr(empty, name)):
            raise NotCompact(f"the columns of {name} are not those of today's records")
    kept: dict[str, set[str]] = {side: set() for side in (*SIDES, "overlaps")}
    while True:
        truth, own = _encode(original, kept)
        rebuilt = unpack(truth, own)
        more = _differing(original, rebuilt, kept)
        if not more:
            break
        for place, column in more:
            kept[place].add(column)
    for name in TABLES:
        if digest(rebuilt[name]) != digest(original[name]):
            raise NotCompact(f"the table of {name} would not come out equal")
    words = [f"{place} {column}".strip() for place in kept for column in sorted(kept[place])]
    return Packed(truth, own, words)


def _encode(original: Frames, kept: dict[str, set[str]]) -> tuple[Frames, Frames]:
    images, nuclei = original["images"], original["nuclei"]
    sides = {name: nuclei[(nuclei["side"] == name).to_numpy()].reset_index(drop=True) for name in SIDES}
    stored = {name: _encode_side(rows, kept[name]) for name, rows in sides.items()}
    overlaps = original["overlaps"] if kept["overlaps"] else _encode_overlaps(original)
    truth = {"images": images[list(OF_TRUTH)], "nuclei": stored["true"]}
    return truth, {"images": images[["image", "pred_typed"]], "nuclei": stored["pred"], "overlaps": overlaps}


def _encode_side(rows: pd.DataFrame, kept: set[str]) -> pd.DataFrame:
    """Columns of one side's nuclei; centroids and solidity as whole numbers, where these give them back."""
    area = rows["area"].to_numpy().astype(np.int64)
    columns: dict = {"image": rows["image"]} | {name: rows[name] for name in AS_IT_IS}
    for name in ("x", "y"):
        if name not in kept:
            columns[f"{name}_sum"] = _whole(rows[name].to_numpy() * area)
    if "solidity" not in kept:
        with np.errstate(divide="ignore", invalid="ignore"):
            hull = area / rows["solidity"].to_numpy().astype(np.float64)
        columns["hull_more"] = _whole(np.where(np.isfinite(hull), hull - area, -1))  # -1: no solidity
    return pd.DataFrame(columns | {name: rows[name] for name in sorted(kept)})


def _encode_overlaps(original: Frames) -> pd.DataFrame:
    """A row for each pair of nuclei that overlap: steps of their positions in the tables of their sides, and the pixels
    that the smaller of the two has outside of the other."""
    columns = Columns(**original)
    true, pred, shared = _pairs(columns)
    smaller = np.minimum(columns.side["true"]["area"][true - 1], columns.side["pred"]["area"][pred - 1])
    steps = [_whole(np.diff(position, prepend=1)) for position in (true, pred)]
    return pd.DataFrame({"true_step": steps[0], "pred_step": steps[1], "lacking": _whole(smaller - shared)})


def unpack(truth: Frames, own: Frames) -> Frames:
    """The tables of records of what `pack` made: name -> DataFrame, as `Records` holds them."""
    images = truth["images"]
    number = images["image"].to_numpy()
    sides = [_decode_side(stored["nuclei"], images) for stored in (truth, own)]
    joined = {name: np.concatenate([side[name] for side in sides]) for name in sides[0]}
    is_pred = np.repeat([0, 1], [len(side["id"]) for side in sides])
    order = np.lexsort((is_pred, joined["image"]))
    nuclei: dict = {name: column[order] for name, column in joined.items()}
    nuclei["id"] = ids([nuclei["id"]])
    nuclei["side"] = pd.Categorical.from_codes(is_pred[order], dtype=_sides())
    overlaps = own["overlaps"]
    if "lacking" in overlaps:
        overlaps = pd.DataFrame(_decode_overlaps(overlaps, images, *sides))
    nuclei |= _partners(Columns(images, overlaps, nuclei), is_pred[order])
    counts = {f"n_{name}": _counts(side["image"], number) for name, side in zip(SIDES, sides)}
    predicted = own["images"]["pred_typed"].to_numpy()
    facts = {name: images[name] for name in images} | {"pred_typed": predicted} | counts | foreground(overlaps, number)
    empty = Records.collect([], [])
    tables = {"images": pd.DataFrame(facts), "overlaps": overlaps, "nuclei": pd.DataFrame(nuclei)}
    return {name: table[list(getattr(empty, name))] for name, table in tables.items()}


def _decode_side(stored: pd.DataFrame, images: pd.DataFrame) -> dict[str, np.ndarray]:
    """All columns of one side's nuclei but those that need the other side."""
    side = {name: stored[name].to_numpy() for name in ("image", *AS_IT_IS)}
    area, counts = side["area"].astype(np.int64), _counts(side["image"], images["image"].to_numpy())
    mpp = np.repeat(images["mpp"].to_numpy(), counts)

    def column(name: str, derive) -> np.ndarray:
        return stored[name].to_numpy() if name in stored else derive()

    def solidity() -> np.ndarray:
        more = stored["hull_more"].to_numpy()
        return np.where(more >= 0, area / np.maximum(area + more, 1), np.nan).astype(np.float32)

    first = np.cumsum(counts) - counts
    side["id"] = column("id", lambda: 1 + np.arange(len(area)) - np.repeat(first, counts)).astype(np.int64)
    for name in ("x", "y"):
        side[name] = column(name, lambda name=name: stored[f"{name}_sum"].to_numpy() / area)
    side["solidity"] = column("solidity", solidity)
    side["d_um"] = column("d_um", lambda: diameter_um(side["area"], mpp))
    side["neighbour_um"] = column("neighbour_um", lambda: neighbour_um(side["x"], side["y"], counts, mpp))
    return side


def _decode_overlaps(stored: pd.DataFrame, images: pd.DataFrame, true: dict, pred: dict) -> dict[str, np.ndarray]:
    """The joint histogram of nuclei of one type each: stored pairs, and what is left of nuclei and image as overlaps
    with background."""
    at_true, at_pred = (np.cumsum(stored[name].to_numpy().astype(np.int64)) for name in ("true_step", "pred_step"))
    shared = np.minimum(true["area"][at_true], pred["area"][at_pred]) - stored["lacking"].to_numpy()
    number = images["image"].to_numpy()
    image, left = true["image"][at_true], images["height"].to_numpy().astype(np.int64) * images["width"].to_numpy()
    left += np.bincount(np.searchsorted(number, image), shared, len(number)).astype(np.int64)
    parts = [(image, true["id"][at_true], true["type"][at_true], pred["id"][at_pred], pred["type"][at_pred], shared)]
    for side, at in ((true, at_true), (pred, at_pred)):
        rest = side["area"] - np.bincount(at, shared, len(side["area"])).astype(np.int64)
        left -= np.bincount(np.searchsorted(number, side["image"]), side["area"], len(number)).astype(np.int64)
        none, some = np.zeros(int((rest > 0).sum()), np.int64), rest > 0
        nuclei = (side["id"][some], side["type"][some])
        both = (*nuclei, none, none) if side is true else (none, none, *nuclei)
        parts.append((side["image"][some], *both, rest[some]))
    none = np.zeros(int((left > 0).sum()), np.int64)
    parts.append((number[left > 0], none, none, none, none, left[left > 0]))
    image, true_id, true_type, pred_id, pred_type, pixels = (np.concatenate(columns) for columns in zip(*parts))
    order = np.lexsort((pred_id, true_id, image))
    return {
        "image": image[order].astype(np.int32),
        "true_id": ids([true_id[order]]),
        "true_type": true_type[order].astype(np.uint8),
        "pred_id": ids([pred_id[order]]),
        "pred_type": pred_type[order].astype(np.uint8),
        "pixels": pixels[order].astype(np.int32),
    }


def _partners(columns: Columns, is_pred: np.ndarray) -> dict[str, np.ndarray]:
    """Columns match and iou of all nuclei."""
    pairs = dict(zip(SIDES, _pairs(columns)))
    shared, area = _pairs(columns)[2], {name: columns.side[name]["area"].astype(np.int64) for name in SIDES}
    iou = pair_iou(area["true"][pairs["true"] - 1], area["pred"][pairs["pred"] - 1], shared)
    match, best = np.zeros(len(is_pred), np.int64), np.zeros(len(is_pred))
    for code, (own, other) in enumerate((SIDES, SIDES[::-1])):
        other_id = columns.side[other]["id"][pairs[other] - 1].astype(np.int64)
        match[is_pred == code], best[is_pred == code] = partners(len(area[own]), pairs[own] - 1, other_id, iou)
    return {"match": ids([match]), "iou": best}


def _pairs(columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping pairs whatever their types: positions 1.. of the nuclei within their sides, common pixels."""
    both = (columns.true > 0) & (columns.pred > 0)
    width = len(columns.side["pred"]["id"]) + 1
    return sum_by_pair(columns.true[both], columns.pred[both], columns.pixels[both], width)


def _differing(original: Frames, rebuilt: Frames, kept: dict[str, set[str]]) -> list[tuple[str, str]]:
    """(place, column) of what is to be stored as it is next, of what is not yet."""
    is_pred = (original["nuclei"]["side"] == "pred").to_numpy()
    for names in REPLACEABLE:
        out = []
        for name in names:
            old, new = original["nuclei"][[name]], rebuilt["nuclei"][[name]]
            if name == "id":  # as wide as those of both sides together need
                old, new = old.astype("int64"), new.astype("int64")
            for side, chosen in zip(SIDES, (~is_pred, is_pred)):
                if name not in kept[side] and digest(old[chosen]) != digest(new[chosen]):
                    out.append((side, name))
        if out:
            return out
    if not kept["overlaps"] and digest(original["overlaps"]) != digest(rebuilt["overlaps"]):
        return [("overlaps", "")]
    return []


def digest(*tables: pd.DataFrame) -> str:
    """Hex SHA-256 of the content of tables: names, order and types of the columns, and their values."""
    content = hashlib.sha256()
    for table in tables:
        for name in table:
            values = table[name].to_numpy()
            text = values.dtype.kind not in "biuf"
            kind = str(values.dtype) if not text else "words" if table[name].dtype == "category" else "text"
            content.update(f"{name} {kind} {len(values)}\n".encode())
            if text:
                content.update(json.dumps(list(map(str, values))).encode())
            else:
                if values.dtype.kind == "f":
                    values = np.where(np.isnan(values), values.dtype.type(np.nan), values)  # one NaN of many
                content.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table as small as Parquet gets it: bytes of one weight together, zstd."""
    columns = {name: pa.array(table[name]) for name in table}
    numbers = [name for name in table if table[name].dtype.kind in "iuf"]
    pq.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        compression_level=22,
        use_dictionary=[name for name in table if table[name].dtype.kind not in "biuf"],
        column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
        write_statistics=False,
        store_schema=False,
    )


def read(folder: Path, names: Iterable[str]) -> Frames:
    """Read tables that `write` wrote to `<folder>/<name>.parquet`. Raises ValueError when one cannot be read."""
    out = {}
    for name in names:
        path = folder / f"{name}.parquet"
        try:
            out[name] = pq.read_table(path).to_pandas()
        except Exception as error:  # pyarrow stumbles over damaged bytes in any way
            raise ValueError(f"{path} cannot be read ({error!s:.200})") from error
    return out


def _whole(values: np.ndarray) -> np.ndarray:
    """Rounded, as int32 where that holds them, else int64."""
    rounded = np.rint(values).astype(np.int64)
    return rounded.astype(np.int32) if np.abs(rounded).max(initial=0) <= np.iinfo(np.int32).max else rounded


def _counts(image: np.ndarray, number: np.ndarray) -> np.ndarray:
    """int32 (n,): how many rows are of each of the images `number`."""
    return np.bincount(np.searchsorted(number, image), minlength=len(number)).astype(np.int32)


def _sides() -> pd.CategoricalDtype:
    return Records.collect([], []).nuclei["side"].dtype
