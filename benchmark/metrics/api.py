"""Score predictions against ground truth in one call: lists of label maps in, a table and a dict out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .inputs import check_agreement
from .match import match
from .protocols import PROTOCOLS
from .records import Records


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        images: a row per image (per protocol and image for "all"): protocol, image, tissue, bPQ, bDQ, bSQ, mPQ,
            PQ_<class>, Dice, AJI and what else the protocol gives; see `Protocol.images`.
        summary: flat dict of scores of the set, see `Protocol.summary`; for "all" a dict of them by protocol.
        records: what all of it was computed from; `metrics.sizes` and `metrics.curves` take it.
    """

    images: pd.DataFrame
    summary: dict
    records: Records


def evaluate(
    true: Sequence,
    pred: Sequence,
    protocol: str = "cellvit",
    *,
    mpp: float | Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    tissues: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
) -> Evaluation:
    """Score images under a protocol.

    Args:
        true, pred: one entry per image, in the same order: (instances, types), instances alone, or an object with
            attributes `instances` and `types` such as `Nuclei` (its `type_map`, `mpp`, `tissue`, `image_id`, `source`
            and `typed` are used where it has them). instances: (H, W) whole numbers >= 0, 0 = background; types: pixel
            type map (H, W), one type per instance (N,) in ascending order of id, or None; 0 = untyped.
        protocol: a name in `PROTOCOLS`, or "all".
        mpp: micrometres per pixel, of all images or of each; compulsory unless the true entries carry it.
        classes: names of types 1..C; None: as many as occur, named "1", "2", …
        names, tissues, sources: of each image; sources are slides or patients, which the bootstrap draws as one.

    Raises:
        ValueError: nothing to score, an unknown protocol, lists of different lengths, duplicate names, missing mpp,
            maps of which `match` or `check_agreement` says what is wrong, with the image. Nothing is scored then.
    """
    true, pred = list(true), list(pred)
    if protocol != "all" and protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; known are {', '.join(PROTOCOLS)} and all")
    if not true or len(true) != len(pred):
        raise ValueError(
            f"{len(true)} true and {len(pred)} predicted images, expected as many of each and at least one"
        )
    columns = {"image_id": names, "tissue": tissues, "source": sources}
    for key, values in columns.items():
        if values is not None and len(values) != len(true):
            raise ValueError(f"{len(values)} values of {key} for {len(true)} images, expected one per image")
    matches, meta = [], []
    for i, one in enumerate(true):
        row = {"image": i, "typed": bool(getattr(one, "typed", True)) and _maps(one)[1] is not None}
        row |= {k: str(getattr(one, k, "") if v is None else v[i]) for k, v in columns.items()}
        meta.append(row)
    _refuse_duplicates([row["image_id"] for row in meta])
    for row, one, other in zip(meta, true, pred, strict=True):
        where = f"image {row['image']}" + (f" ('{row['image_id']}')" if row["image_id"] else "")
        try:
            for name, entry in (("true", one), ("pred", other)):
                check_agreement(*_maps(entry), f"{name}_types")
            matches.append(match(*_maps(one), *_maps(other), mpp=_mpp(mpp, one, row["image"], len(true))))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    records = Records.collect(matches, meta)
    if classes is None:
        classes = [str(k) for k in range(1, _most(records) + 1)]
    listed = sorted({row["tissue"] for row in meta} - {""})
    chosen = list(PROTOCOLS) if protocol == "all" else [protocol]
    frames = [_table(name, PROTOCOLS[name].images(records, len(classes)), classes) for name in chosen]
    summaries = {name: PROTOCOLS[name].summary(records, list(classes), listed) for name in chosen}
    summary = summaries if protocol == "all" else summaries[protocol]
    return Evaluation(pd.concat(frames, ignore_index=True), summary, records)


def _maps(entry) -> tuple:
    """(instances, types) of an entry; the pixel type map where it keeps one."""
    if hasattr(entry, "instances"):
        kept = getattr(entry, "type_map", None)
        return entry.instances, kept if kept is not None else entry.types
    if isinstance(entry, tuple | list) and len(entry) == 2 and np.ndim(entry[0]) == 2:
        return tuple(entry)
    return entry, None


def _mpp(given, entry, i: int, n: int) -> float:
    if given is None:
        given = getattr(entry, "mpp", None)
        if given is None:
            raise ValueError("mpp is missing, expected micrometres per pixel (0.25 at x40, 0.5 at x20)")
        return given
    if np.ndim(given) == 0:
        return given
    if len(given) != n:
        raise ValueError(f"{len(given)} values of mpp for {n} images, expected one, or one per image")
    return float(given[i])


def _refuse_duplicates(names: list[str]) -> None:
    seen = set()
    for name in names:
        if name and name in seen:
            raise ValueError(f"the name '{name}' occurs twice, expected a name of its own for each image")
        seen.add(name)


def _most(records: Records) -> int:
    """The largest type that a pixel holds where the truth is typed."""
    typed = set(records.images.loc[records.images["typed"] & records.images["pred_typed"], "image"])
    rows = records.overlaps[records.overlaps["image"].isin(typed)]
    return int(max(rows["true_type"].max(), rows["pred_type"].max())) if len(rows) else 0


def _table(protocol: str, frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The protocol's frame with names for numbers: image by its name, types by their class."""
    named = frame["image_id"].where(frame["image_id"] != "", frame["image"].astype(str))
    renamed = {}
    for column in frame.columns:
        stem, _, k = column.rpartition("_")
        if stem and k.isdigit() and 1 <= int(k) <= len(classes):
            renamed[column] = f"{stem}_{classes[int(k) - 1]}"
    out = frame.drop(columns=["image", "image_id"]).rename(columns=renamed)
    first = ["tissue", "bPQ", "bDQ", "bSQ", "mPQ", *(c for c in out if c.startswith("PQ_"))]
    out = out[[*(c for c in first if c in out), *(c for c in out if c not in first)]]
    out.insert(0, "image", named.to_numpy())
    out.insert(0, "protocol", protocol)
    return out
