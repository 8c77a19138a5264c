"""Images with their nuclei in Parquet files, as the Hugging Face hub's mirrors have them, read a row group at a time.

Two schemas, told by their columns:

    image, instances [, categories]    instances: a list of 1-bit masks, one a nucleus; categories: a number from 0 for
                                       each mask
    image, inst [, type]               inst: ids of nuclei, 0 = background (PNG of 16 bits); type: a type map, 0 = none,
                                       k + 1 = the k-th class (PNG of 8 bits)

A picture is the bytes of a PNG (an image also of a JPEG), plain or in a struct with the field `bytes`. Further columns,
all optional: id, patient, tissue, fold. Names of categories, types and tissues are those of the file's own metadata
(the features that the library `datasets` writes), or unknown.

Where masks of a list overlap they are painted in the order of their categories, and of the list within one: the later
has the pixel, as in PanNuke's channels. Readers of other sets may have it the other way round, see `Rule`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.data.files import archive, checks, raster
from benchmark.data.files.tally import Tally
from benchmark.runtime.errors import InputError

MASKS, MAPS = ("image", "instances"), ("image", "inst")  # the columns that tell the schemas
TYPES = {MASKS: "categories", MAPS: "type"}
FACTS = ("id", "patient", "tissue", "fold")
OVERLAP = {
    False: "masks overlap another: the one of the later class, or the later in the list within a class, has the pixels",
    True: "masks overlap another: the earlier in the list has the pixels",
}
AT_ONCE = 8  # rows that are unpacked at once
BLOCK = 1 << 20  # bytes of a column that are read at once
_ADVICE = "docs/datasets/parquet.md has the schemas that are read"


@dataclass(frozen=True)
class Rule:
    """How masks become nuclei.

    Attributes:
        classes: of categories 0.. or types 1..; () where no types are read.
        earlier: where masks overlap, the earlier in the list has the pixels, whatever its category.
        ignored: the category whose masks are no nuclei but regions that are not judged; -1 for none.
    """

    classes: tuple[str, ...] = ()
    earlier: bool = False
    ignored: int = -1


@dataclass(frozen=True)
class Row:
    """An image.

    Attributes:
        where: file and row, for sentences.
        image: uint8 (H, W, 3).
        instances: int64 (H, W), 0 = background.
        types: uint8 (N,) in ascending order of id, or a map (H, W), 0 = none; None where no types are read.
        ignore: bool (H, W), regions that are not judged; None for none.
    """

    where: str
    image: np.ndarray
    instances: np.ndarray
    types: np.ndarray | None
    ignore: np.ndarray | None = None


class ImageFile:
    """A Parquet file in one of the schemas.

    Attributes:
        path: where it lies.
        schema: MASKS or MAPS. typed: whether it has types.

    Raises:
        InputError: no Parquet file, truncated, or of other columns.
    """

    def __init__(self, path: Path):
        self.path = path
        columns = self._file.schema_arrow
        present = [schema for schema in (MASKS, MAPS) if set(schema) <= set(columns.names)]
        if len(present) != 1:
            raise InputError(
                f"{path}: expected the columns image, instances (and categories) or image, inst (and type), found "
                f"{', '.join(columns.names) or 'none'}; {_ADVICE}."
            )
        self.schema = present[0]
        self.typed = TYPES[self.schema] in columns.names
        pictures = {"image": False, self.schema[1]: self.schema == MASKS}
        pictures |= {"type": False} if self.schema == MAPS and self.typed else {}
        for name, several in pictures.items():
            self._check(name, _of_pictures(columns.field(name).type, several), f"{'lists of ' * several}PNG bytes")
        if self.schema == MASKS and self.typed:
            kind = columns.field("categories").type
            self._check("categories", _is_list(kind) and pa.types.is_integer(kind.value_type), "lists of whole numbers")

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        return tuple(n for n in (*self.schema, TYPES[self.schema], *FACTS) if n in self._file.schema_arrow.names)

    def facts(self, name: str) -> list:
        """The values of one of FACTS, text or whole numbers; a null is "".

        Raises:
            InputError: values of another kind, or a damaged file.
        """
        kind = self._file.schema_arrow.field(name).type
        self._check(name, pa.types.is_integer(kind) or _is_text(kind), "text or whole numbers")
        with archive.reading(self.path):
            values = self._file.read([name], use_threads=False).column(0).to_pylist()
            if len(values) != len(self):
                raise ValueError(f"it has {len(self)} rows, of which its column {name} holds {len(values)}")
        return ["" if value is None else value for value in values]

    def names(self, name: str) -> tuple[str, ...]:
        """What the numbers 0.. of a column are called by the file's metadata; () where it does not say."""
        feature = self._features.get(name)
        if isinstance(feature, list) and feature:  # lists as older versions wrote them
            feature = {"feature": feature[0]}
        if isinstance(feature, dict):
            feature = feature.get("feature", feature)
        words = feature.get("names") if isinstance(feature, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            return ()
        return tuple(words)

    def rows(self, wanted: np.ndarray, rule: Rule, tally: Tally) -> Iterator[Row]:
        """Images at these rows, ascending. Memory: a row group at a time (100 images in the hub's mirrors), as it was
        packed; row groups without one of these rows are passed over.

        Args:
            rule: how masks become nuclei. tally: is told of overlapping masks.

        Raises:
            InputError: naming file and row, for what cannot be read and for labels that do not fit.
        """
        columns = [*self.schema, *([TYPES[self.schema]] if self.typed and rule.classes else [])]
        for where, row in self._rows(columns, wanted):
            image = checks.rgb(raster.from_bytes(_bytes(row["image"], f"{where} image"), where, colours=True), where)
            read = self._of_masks if self.schema == MASKS else self._of_maps
            yield Row(where, image, *read(row, image.shape[:2], rule, tally, where))

    def _rows(self, columns: list[str], wanted: np.ndarray) -> Iterator[tuple[str, dict]]:
        """(file and row, values) of the rows wanted."""
        first = 0
        for group in range(self._file.num_row_groups):
            with archive.reading(self.path):
                n = self._file.metadata.row_group(group).num_rows
            if here := set(wanted[(first <= wanted) & (wanted < first + n)].tolist()):
                yield from self._of_group(group, columns, first, here)
            first += n

    def _of_group(self, group: int, columns: list[str], first: int, wanted: set[int]) -> Iterator[tuple[str, dict]]:
        with archive.reading(self.path):
            batches = self._file.iter_batches(AT_ONCE, row_groups=[group], columns=columns, use_threads=False)
            for batch in batches:
                for k in range(len(batch)):
                    if first + k in wanted:
                        yield f"{self.path}, row {first + k}", {name: batch.column(name)[k].as_py() for name in columns}
                first += len(batch)
                if first > max(wanted):
                    return
            raise ValueError(f"it ends before its row {max(wanted)}")

    def _of_masks(self, row: dict, shape: tuple[int, int], rule: Rule, tally: Tally, where: str):
        categories = row.get("categories")
        masks = row["instances"] or []
        order = list(range(len(masks)))
        if categories is not None:
            _check_categories(categories, len(masks), rule.classes, where)
            if not rule.earlier:
                order.sort(key=lambda k: categories[k])
        labels, ignore = np.zeros(shape, np.int64), np.zeros(shape, bool)
        empty = overlapping = regions = 0
        for number, k in enumerate(order, 1):
            mask = _plane(_bytes(masks[k], f"{where}, mask {k}"), shape, f"{where}, mask {k}") > 0
            if categories is not None and categories[k] == rule.ignored:
                ignore |= mask
                regions += 1
                continue
            empty += not mask.any()
            overlapping += bool(labels[mask].any())
            labels[mask & (labels == 0) if rule.earlier else mask] = number
        present = np.unique(labels)
        present = present[present > 0]
        tally.add("masks are empty and are no nuclei", empty)
        tally.add(OVERLAP[rule.earlier], overlapping)
        tally.add("masks lie wholly under others and are no nuclei", len(masks) - regions - empty - len(present))
        types = None
        if categories is not None:
            types = np.array([categories[k] + 1 for k in order], np.uint8)[present - 1]
        return labels, types, ignore if ignore.any() else None

    def _of_maps(self, row: dict, shape: tuple[int, int], rule: Rule, tally: Tally, where: str):
        instances = _plane(_bytes(row["inst"], f"{where} inst"), shape, f"{where} inst")
        if "type" not in row:
            return instances, None
        types = checks.types(_plane(_bytes(row["type"], f"{where} type"), shape, f"{where} type"), rule.classes, where)
        checks.inside(types, instances, where)
        return instances, types

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            kind = self._file.schema_arrow.field(name).type
            raise InputError(f"{self.path}: expected {expected} in the column {name}, found {kind}; {_ADVICE}.")

    @cached_property
    def _file(self) -> pq.ParquetFile:
        with archive.reading(self.path):
            file = pq.ParquetFile(self.path, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True)
            groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
            if min(groups, default=0) < 0 or sum(groups) != file.metadata.num_rows:
                raise ValueError(f"it has {file.metadata.num_rows} rows, its row groups have {sum(groups)}")
            return file

    @cached_property
    def _features(self) -> dict:
        """What the metadata say of each column."""
        content = (self._file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        try:
            features = json.loads(content)["info"]["features"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}
        return features if isinstance(features, dict) else {}


def _check_categories(categories: list, n: int, classes: tuple[str, ...], where: str) -> None:
    """Raises InputError unless there are n, each the number of a class."""
    if len(categories) != n:
        raise InputError(
            f"{where}: expected a category for each of {n} masks, found {len(categories)}; fetch it again."
        )
    strange = [c for c in categories if c is None or not 0 <= c < len(classes)]
    if strange:
        raise InputError(
            f"{where}: expected categories 0..{len(classes) - 1} ({', '.join(classes)}), found {strange[0]}; check the "
            "classes."
        )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _of_pictures(kind: pa.DataType, several: bool) -> bool:
    """Whether values are bytes, plain or in a struct; several: lists of them."""
    if several:
        return _is_list(kind) and _of_pictures(kind.value_type, False)
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _of_pictures(kind.field(index).type, False)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _bytes(value, where: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not content:
        raise InputError(
            f"{where}: expected the bytes of a picture, found none; a path alone is not read, fetch the file again."
        )
    return content


def _plane(content: bytes, shape: tuple[int, int], where: str) -> np.ndarray:
    """int64 (H, W) of the image's shape."""
    if (size := raster.size_from_bytes(content, where)) != shape:  # before memory is taken for it
        raise InputError(f"{where}: expected the image's shape {shape}, found {size}; fetch the file again.")
    return checks.plane(raster.from_bytes(content, where), where)
