"""What `predict` writes of a slide: outlines for QuPath, a table of nuclei, an overview; nucleus by nucleus."""

import contextlib
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy import ndimage

from benchmark.evaluation.slides.tiles import Nucleus
from benchmark.formats import wkb
from benchmark.formats.geojson import COLOURS, Features
from benchmark.runtime.files import atomic, read_json

ENDINGS = (".geojson.gz", ".parquet", ".png", ".json")  # the last one is written last
GROUP = 50_000  # rows of the table that are written at once
DIGITS = 2  # of coordinates that are no whole pixels
DOT = 5.0  # µm, diameter of a nucleus on the overview
UNTYPED = COLOURS[-1]
_GEO = {"version": "1.1.0", "primary_column": "outline"}
_COLUMN = {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"], "crs": None}
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("uuid", pa.string()),  # its id in the GeoJSON
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("area_um2", pa.float32()),
        ("type", pa.dictionary(pa.int16(), pa.string())),
        ("score", pa.float32()),
        ("outline", pa.binary()),
    ],
    metadata={"geo": json.dumps(_GEO | {"columns": {"outline": _COLUMN}})},
)


def slide_of(facts: Path) -> str | None:
    """The digest of the slide of a <stem>.json; None for another file, or none at all."""
    try:
        return str(read_json(facts)["identity"]["slide"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Outputs:
    """The files of one slide; they appear whole, when the block ends without an error.

    Coordinates are in pixels of the slide's finest level, with the corner of its first pixel at 0, as QuPath has them.

    Args:
        folder, stem: where, and the beginning of the files' names.
        classes: names of types 1..C.
        scale: pixels of the finest level along one as the method sees the slide, along y and x.
        mpp: micrometres per pixel as the method sees it.
        thumbnail: uint8 (h, w, 3).
        per_pixel: px as the method sees the slide, of one of the thumbnail.

    Attributes:
        counts: int64 (C + 1,) nuclei by type.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        classes: list[str],
        scale: tuple[float, float],
        mpp: float,
        thumbnail: np.ndarray,
        per_pixel: tuple[float, float],
    ):
        self._paths = [folder / f"{stem}{ending}" for ending in ENDINGS[:3]]
        self._stem, self._classes, self._scale, self._mpp = stem, classes, scale, mpp
        self._thumbnail, self._per_pixel = thumbnail, per_pixel
        self.counts = np.zeros(len(classes) + 1, np.int64)
        self._density = np.zeros((len(classes) + 1, *thumbnail.shape[:2]), np.uint16)
        self._rows: list[tuple] = []

    def __enter__(self) -> "Outputs":
        with contextlib.ExitStack() as stack:
            packed = stack.enter_context(atomic(self._paths[0]))
            # neither time nor name: the same nuclei are the same bytes
            text = stack.enter_context(gzip.GzipFile("", "wb", 6, packed, mtime=0))
            self._features = stack.enter_context(Features(lambda t: text.write(t.encode()), self._stem, self._classes))
            table = stack.enter_context(atomic(self._paths[1]))
            self._table = stack.enter_context(pq.ParquetWriter(table, SCHEMA, compression="zstd"))
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind, *error) -> None:
        if kind is None:
            self._flush()
        self._open.__exit__(kind, *error)

    def add(self, nucleus: Nucleus) -> None:
        """Write a nucleus."""
        number = int(self.counts.sum()) + 1
        polygons = [[self._placed(ring) for ring in rings] for rings in nucleus.polygons]
        area = nucleus.area * self._mpp**2
        identity = self._features.add(number, polygons, nucleus.type, area, nucleus.score)
        name = self._classes[nucleus.type - 1] if nucleus.type else None
        y, x = nucleus.y * self._scale[0], nucleus.x * self._scale[1]
        self._rows.append((number, identity, x, y, area, name, nucleus.score, wkb.encoded(polygons)))
        if len(self._rows) >= GROUP:
            self._flush()
        self.counts[nucleus.type] += 1
        row, column = int(nucleus.y / self._per_pixel[0]), int(nucleus.x / self._per_pixel[1])
        cell = nucleus.type, min(row, self._density.shape[1] - 1), min(column, self._density.shape[2] - 1)
        self._density[cell] = min(int(self._density[cell]) + 1, 65535)

    def _placed(self, ring: np.ndarray) -> list:
        if self._scale == (1, 1):
            return ring.tolist()
        return np.round(ring * self._scale[::-1], DIGITS).tolist()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows)
            arrays = [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA)]
            self._table.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self._rows = []

    def overview(self, tissue: np.ndarray) -> None:
        """Write the thumbnail with the border of the tissue, and nuclei in the colours of the outlines' file.

        A pixel has the colour of the type most frequent in it, the stronger the more nuclei it holds; where pixels are
        smaller than nuclei, each is a dot.
        """
        size = round(DOT / (self._mpp * self._per_pixel[0]))
        if size > 1:
            rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
            disc = rows**2 + columns**2 <= (size / 2) ** 2
            self._density = np.stack([ndimage.maximum_filter(one, footprint=disc) for one in self._density])
        total = self._density.sum(0, dtype=np.int64)
        image = self._thumbnail.astype(np.float32)
        if total.any():
            colours = np.array([UNTYPED, *(COLOURS[k % len(COLOURS)] for k in range(len(self._classes)))], np.float32)
            many = np.percentile(total[total > 0], 99)
            share = np.where(total > 0, 0.4 + 0.5 * np.minimum(total / many, 1), 0)[..., None]
            image += share * (colours[self._density.argmax(0)] - image)
        image[tissue & ~ndimage.binary_erosion(tissue)] = 0
        content = io.BytesIO()
        Image.fromarray(image.round().astype(np.uint8)).save(content, "PNG")
        with atomic(self._paths[2]) as handle:
            handle.write(content.getvalue())
