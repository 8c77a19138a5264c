"""Score predictions against ground truth in one call: lists of label maps in, a table and a dict out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from .inputs import check_agreement
from .match import match
from .protocols import PROTOCOLS, choose
from .records import Records
from .sizes import extra_labels


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of images under a protocol: a table of images and a summary, computed at first access.

    Attributes:
        records: matched nuclei of all images, from which all scores are computed; `metrics.sizes` and
            `metrics.curves` take them.
        classes: names of types 1..C.
        tissues: tissues of the tissue mean.
        protocol: a name in PROTOCOLS, or "all".
    """

    records: Records
    classes: list[str]
    tissues: list[str]
    protocol: str = "all"

    @cached_property
    def images(self) -> pd.DataFrame:
        """A row per image (per protocol and image for "all"): protocol, image, tissue, bPQ, bDQ, bSQ, mPQ, PQ_<class>,
        Dice, AJI and what else the protocol gives; see `Protocol.images`."""
        frames = [pd.DataFrame(self._columns(name)) for name in choose(self.protocol)]
        return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)

    @cached_property
    def summary(self) -> dict:
        """Flat dict of scores of the set, see `Protocol.summary`; for "all" a dict of them by protocol."""
        return self.summaries if self.protocol == "all" else self.summaries[self.protocol]

    @cached_property
    def summaries(self) -> dict[str, dict[str, float]]:
        """protocol -> its summary, also where there is one protocol."""
        return {
            name: PROTOCOLS[name].summary(self.records, self.classes, self.tissues) for name in choose(self.protocol)
        }

    def rows(self) -> list[dict]:
        """`images` as a dict per row, each with the columns of its own protocol alone; type 0 is called "untyped" (see
        `sizes.extra_labels`)."""
        out = []
        for name in choose(self.protocol):
            out += pd.DataFrame(self._columns(name, {0: extra_labels(self.classes)[0]})).to_dict("records")
        return out

    def _columns(self, protocol: str, also: dict[int, str] | None = None) -> dict:
        """The protocol's columns of images with names for numbers: image by its name, types by their class.

        Args:
            also: names of further types.
        """
        scores = dict(PROTOCOLS[protocol].columns(self.records, len(self.classes)))
        number, name = scores.pop("image"), scores.pop("image_id")
        class_of = dict(enumerate(self.classes, start=1)) | (also or {})
        titled = {_titled(column, class_of): values for column, values in scores.items()}
        first = ["tissue", "bPQ", "bDQ", "bSQ", "mPQ", *(c for c in titled if c.startswith("PQ_"))]
        image = [str(own or k) for own, k in zip(name.tolist(), number.tolist(), strict=True)]
        out = {"protocol": [protocol] * len(image), "image": image}
        return out | {column: titled[column] for column in first} | titled


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
            maps that `match` or `check_agreement` refuse, with the name of the image. Nothing is scored then.
    """
    true, pred = list(true), list(pred)
    choose(protocol)  # an unknown one is refused before anything is matched
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
    return Evaluation(records, list(classes), listed, protocol)


def _maps(entry) -> tuple:
    """(instances, types) of an entry; the pixel type map where it keeps one."""
    if hasattr(entry, "instances"):
        kept = getattr(entry, "type_map", None)
        return entry.instances, kept if kept is not None else entry.types
    if isinstance(entry, tuple | list) and len(entry) == 2 and np.ndim(entry[0]) == 2:
        return tuple(entry)
    return entry, None


def _mpp(mpp, entry, i: int, n: int) -> float:
    if mpp is None:
        mpp = getattr(entry, "mpp", None)
        if mpp is None:
            raise ValueError("mpp is missing, expected micrometres per pixel (0.25 at x40, 0.5 at x20)")
        return mpp
    if np.ndim(mpp) == 0:
        return mpp
    if len(mpp) != n:
        raise ValueError(f"{len(mpp)} values of mpp for {n} images, expected one, or one per image")
    return float(mpp[i])


def _refuse_duplicates(names: list[str]) -> None:
    seen = set()
    for name in names:
        if name and name in seen:
            raise ValueError(f"the name '{name}' occurs twice, expected a name of its own for each image")
        seen.add(name)


def _most(records: Records) -> int:
    """The largest type that a pixel holds where the truth is typed."""
    columns = records.columns
    typed = (columns.images["typed"] & columns.images["pred_typed"])[columns.image]
    return int(max(types[typed].max(initial=0) for types in (columns.true_type, columns.pred_type)))


def _titled(column: str, class_of: dict[int, str]) -> str:
    """A column's name with the class in place of a type's number: PQ_1 -> PQ_<class>."""
    stem, _, k = column.rpartition("_")
    return f"{stem}_{class_of[int(k)]}" if stem and k.isdecimal() and int(k) in class_of else column
