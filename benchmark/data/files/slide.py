"""Whole slides: pyramids of tiled TIFF, read with tiffslide region by region, never whole.

A region of a level is what its tiles hold. Tiles that a scanner left out (no bytes) are white, as viewers show them;
tiles that cannot be decoded are white too, and are counted and named, for whoever reads to say so.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.files import archive, raster, resolution
from benchmark.runtime.errors import InputError

SUFFIXES = (".svs", ".ndpi", ".scn")  # always slides; a TIFF is one by its content
LARGE = 100_000_000
WHITE = 255
SIDE = 2000  # px of a thumbnail's longer side, about
FINEST = 1.0  # micrometres per pixel of a thumbnail, at least
_BLOCK = 2048  # px of a side of what is read at once for it
_CHUNK = 64_000_000  # pixels of one tile or strip of the file, at most
_RGB = 2  # photometric interpretation
_APERIO_YCBCR = 33003  # compression: JPEG 2000 of colours that no decoder turns into RGB


@dataclass(frozen=True)
class Level:
    """One resolution of a slide. downsample: pixels of the finest level along one of its own."""

    height: int
    width: int
    downsample: float


def is_slide(path: Path) -> bool:
    """Whether `predict` reads a file region by region: by its ending, or a TIFF that is a tiled pyramid or is large.

    Raises:
        InputError: a TIFF whose header cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix not in raster.TIFF:
        return False
    import tifffile

    with archive.reading(path), tifffile.TiffFile(path) as file:
        page = file.pages.first
        return page.imagelength * page.imagewidth > LARGE or (page.is_tiled and len(file.series[0].levels) > 1)


class Slide:
    """A slide that is open for reading; one thread reads at a time.

    Args:
        path: a file of tiffslide's: SVS, tiled TIFF and OME-TIFF, NDPI, SCN.
        mpp: micrometres per pixel of the finest level; None: those that the file states.

    Attributes:
        levels: from the finest on.
        unreadable: (level, row, column) of tiles of the file that could not be decoded -> why.

    Raises:
        InputError: tiffslide is not installed, no such file, not 8-bit RGB, or no resolution that fits it.
    """

    def __init__(self, path: Path, mpp: float | None = None):
        try:
            import tiffslide
        except ImportError as error:
            raise InputError(
                f"{path}: slides are read with tiffslide, which is not installed; install the extra [slides]."
            ) from error
        self.path, self.unreadable = path, {}
        with archive.reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of properties that tiffslide does not read
            self._slide = tiffslide.TiffSlide(path)
            file = self._slide.ts_tifffile
            try:
                facts = self._slide.properties
            except NotImplementedError as error:  # axes that tiffslide does not read; the file is whole
                raise _no_rgb(path, file.series[0]) from error
            self.levels = tuple(
                Level(height, width, downsample)
                for (width, height), downsample in zip(self._slide.level_dimensions, self._slide.level_downsamples)
            )
            series = file.series[facts["tiffslide.series-index"]]
            self._composed = "tiffslide.series-composition" in facts
            self._pages = [level.keyframe for level in series.levels]
            self._samples = 4 if _alpha(series) else 3
            self._jp2_ycbcr = series.keyframe.compression == _APERIO_YCBCR
            stated = (facts["tiffslide.mpp-x"], facts["tiffslide.mpp-y"])
        self._check(series, file)
        if mpp is None:
            own = tuple(map(float, stated)) if (file.is_scn or file.is_philips) and all(stated) else None
            mpp = resolution.of_slide(file, path, own)
        self.mpp = mpp

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *error) -> None:
        self._slide.close()

    def _check(self, series, file) -> None:
        """Raises InputError for what is not one slide of 8-bit RGB in tiles."""
        rgb = series.axes in ("YXS", "CYX") and 3 in (series.shape[0], series.shape[2])
        if series.dtype != np.uint8 or not (rgb or _alpha(series)):
            raise _no_rgb(self.path, series)
        largest = max(file.series, key=lambda one: math.prod(one.shape))
        if largest is not series and not self._composed:
            raise InputError(
                f"{self.path}: expected the slide as the first image of the file, found {series.shape} before "
                f"{largest.shape}; save the slide alone."
            )
        size = self.path.stat().st_size
        for page in self._pages:
            if any(start + length > size for start, length in zip(page.dataoffsets, page.databytecounts)):
                raise archive.unreadable(self.path, OSError("it ends before its pixels"))
        chunk = math.prod(_chunk(series.keyframe))
        if chunk > _CHUNK:
            raise InputError(
                f"{self.path}: expected a slide in tiles, found one of {chunk} pixels in one piece; save it tiled "
                "(such as vips tiffsave --tile --pyramid)."
            )

    def fine_enough(self, mpp: float) -> int:
        """The coarsest level that is as fine as this resolution, SAME apart; the finest where none is.

        A coarser level would have to be enlarged, though a finer one shows more.
        """
        most = mpp * (1 + resolution.SAME)
        fine = [k for k, level in enumerate(self.levels) if self.mpp * level.downsample <= most]
        return max(fine, default=0, key=lambda k: self.levels[k].downsample)

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """uint8 (height, width, 3) of a level, within its bounds.

        Raises:
            ValueError: a window beyond the level.
            InputError: the system cannot read the file now, whatever its content; an alpha that is not opaque.
        """
        whole = self.levels[level]
        if min(top, left) < 0 or top + height > whole.height or left + width > whole.width:
            raise ValueError(f"a window {height} x {width} at {top}, {left} is beyond a level of {whole}")
        try:
            region = self._region(level, top, left, height, width)
        except Exception as error:
            self._check_content(error)
            if self._composed:
                raise archive.unreadable(self.path, error) from error
            region = np.full((height, width, self._samples), WHITE, np.uint8)
            for row, column, window, inside in self._chunks(level, top, left, height, width):
                try:
                    region[inside] = self._region(level, *window)
                except Exception as reason:
                    self._check_content(reason)
                    self.unreadable[level, row, column] = " ".join(str(reason).split())[:120] or type(reason).__name__
        if not self._composed:
            for row, column, _, inside in self._chunks(level, top, left, height, width):
                if self._empty(level, row, column):
                    region[inside] = WHITE
        if (region[..., 3:] != 255).any():
            raise InputError(
                f"{self.path}: expected an opaque alpha, found pixels that are not (level {level}, within {height} x "
                f"{width} from {top}, {left}); flatten it onto white and save it without (vips flatten, vips tiffsave)."
            )
        return np.ascontiguousarray(region[..., :3])

    def _check_content(self, error: Exception) -> None:
        """Raises what says nothing about the file's content: a tile must not be kept as damaged for a disk's failure.

        Decoders raise errors of any class over damaged bytes, but none of the system's, which have a number.
        """
        if isinstance(error, MemoryError):
            raise error
        if isinstance(error, OSError) and error.errno is not None:
            raise archive.unreadable(self.path, error) from error

    def _region(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        corner = tuple(_at(place, self.levels[level].downsample) for place in (left, top))
        region = self._slide.read_region(corner, level, (width, height), as_array=True, padding=False)
        if region.shape != (height, width, self._samples):
            raise OSError(f"a region of {height} x {width} was read as {region.shape}")
        return _from_ycbcr(region) if self._jp2_ycbcr else np.array(region)

    def _chunks(self, level: int, top: int, left: int, height: int, width: int) -> Iterator[tuple]:
        """(row, column, window, slices within the region) of the file's tiles under a region of a level."""
        high, wide = _chunk(self._pages[level])
        for row in range(top // high, -(-(top + height) // high)):
            for column in range(left // wide, -(-(left + width) // wide)):
                y, x = max(top, row * high), max(left, column * wide)
                bottom, right = min(top + height, (row + 1) * high), min(left + width, (column + 1) * wide)
                inside = (slice(y - top, bottom - top), slice(x - left, right - left))
                yield row, column, (y, x, bottom - y, right - x), inside

    def _empty(self, level: int, row: int, column: int) -> bool:
        """Whether a tile of the file has no bytes."""
        page = self._pages[level]
        return page.axes != "SYX" and page.databytecounts[row * page.chunked[1] + column] == 0

    def thumbnail(self, show=None) -> tuple[np.ndarray, int, float]:
        """The whole slide, small: uint8 (h, w, 3), of mean colours.

        It is read from the coarsest level that is fine enough, in blocks; a slide without one is read whole, once.

        Args:
            show: called with (blocks done, blocks in all).

        Returns:
            (image, level, pixels of that level along one of the image's).
        """
        finest = self.levels[0]
        target = max(FINEST, max(finest.height, finest.width) * self.mpp / SIDE)
        level = self.fine_enough(target)
        target *= 1 + resolution.SAME  # a level is seldom a quarter of another to the pixel
        whole = self.levels[level]
        factor = max(1, int(target / (self.mpp * whole.downsample)))
        block = max(1, _BLOCK // factor) * factor
        out = np.zeros((-(-whole.height // factor), -(-whole.width // factor), 3), np.uint8)
        corners = [(top, left) for top in range(0, whole.height, block) for left in range(0, whole.width, block)]
        for done, (top, left) in enumerate(corners):
            if show:
                show(done, len(corners))
            height, width = min(block, whole.height - top), min(block, whole.width - left)
            small = _mean(self.read(level, top, left, height, width), factor)
            out[top // factor :, left // factor :][: small.shape[0], : small.shape[1]] = small
        if show:
            show(len(corners), len(corners))
        return out, level, factor


@dataclass(frozen=True)
class View:
    """A slide as a method sees it: one level, resized where its resolution is another than the method's.

    Attributes:
        height, width: px as seen.
        mpp: micrometres per pixel as seen.
        scale: pixels of the slide's finest level along one as seen, along y and x: they differ where a level's sides
            are cut to whole pixels.
    """

    slide: Slide
    level: int
    height: int
    width: int
    mpp: float

    @classmethod
    def of(cls, slide: Slide, mpp: float) -> "View":
        """mpp: of the method. A level within SAME of it is taken as it is."""
        level = slide.fine_enough(mpp)
        whole = slide.levels[level]
        own = slide.mpp * whole.downsample
        if abs(own / mpp - 1) <= resolution.SAME:
            return cls(slide, level, whole.height, whole.width, own)
        return cls(slide, level, round(whole.height * own / mpp), round(whole.width * own / mpp), mpp)

    @property
    def scale(self) -> tuple[float, float]:
        finest = self.slide.levels[0]
        return finest.height / self.height, finest.width / self.width

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """uint8 (height, width, 3) of a window as seen; what lies beyond the slide is mirrored."""
        rows, columns = mirrored(top, height, self.height), mirrored(left, width, self.width)
        low, first = int(rows.min()), int(columns.min())
        inner = self._inside(low, first, int(rows.max()) + 1 - low, int(columns.max()) + 1 - first)
        return inner if inner.shape[:2] == (height, width) else inner[np.ix_(rows - low, columns - first)]

    def _inside(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        whole = self.slide.levels[self.level]
        if (whole.height, whole.width) == (self.height, self.width):
            return self.slide.read(self.level, top, left, height, width)
        spans, boxes = [], []
        for start, length, own, seen in (
            (top, height, whole.height, self.height),
            (left, width, whole.width, self.width),
        ):
            ratio = own / seen
            begin, end = start * ratio, (start + length) * ratio
            reach = 2 + math.ceil(ratio)  # of the filter
            low, high = max(0, math.floor(begin) - reach), min(own, math.ceil(end) + reach)
            spans.append((low, high - low))
            boxes.append((begin - low, end - low))
        (y, high), (x, wide) = spans
        region = self.slide.read(self.level, y, x, high, wide)
        return resized(region, height, width, (boxes[1][0], boxes[0][0], boxes[1][1], boxes[0][1]))


def resized(image: np.ndarray, height: int, width: int, box: tuple[float, ...] | None = None) -> np.ndarray:
    """An image resized, bilinear, over as many pixels as it shrinks.

    Args:
        box: left, top, right, bottom of the part that is meant; None: all. A part is resized as within the whole, as
            far as the image reaches around it.
    """
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))


def mirrored(start: int, length: int, side: int) -> np.ndarray:
    """int64 (length,): the place of each of the positions from `start` on, mirrored at both ends of 0..side - 1."""
    period = max(1, 2 * (side - 1))
    place = np.abs(np.arange(start, start + length)) % period
    return np.minimum(place, period - place) if side > 1 else np.zeros(length, np.int64)


def _alpha(series) -> bool:
    """Whether an image is RGB with one channel more; CMYK has four others."""
    return series.axes == "YXS" and series.shape[2] == 4 and series.keyframe.photometric == _RGB


def _no_rgb(path: Path, series) -> InputError:
    if series.axes == "SYX" and series.dtype == np.uint8:
        return InputError(
            f"{path}: expected the colours of each pixel together, found {series.shape[0]} planes (PlanarConfiguration "
            "2), which tiffslide does not read; convert it, such as with vips tiffsave --tile --pyramid."
        )
    return InputError(
        f"{path}: expected a slide of 8-bit RGB, found {series.dtype} of shape {series.shape} ({series.axes}); stained "
        "tissue in bright field is meant, one image of it with its coarser levels: save it so, as tiled TIFF."
    )


def _chunk(page) -> tuple[int, int]:
    """Height and width of a page's tiles or strips."""
    return page.chunks[1:] if page.axes == "SYX" else page.chunks[:2]


def _at(place: int, downsample: float) -> int:
    """The finest level's position that tiffslide takes for this one of a coarser level: it divides and cuts."""
    finest = math.ceil(place * downsample)
    return finest if int(finest / downsample) >= place else finest + 1


def _mean(image: np.ndarray, factor: int) -> np.ndarray:
    """uint8 means over squares of `factor` pixels a side; the last ones may be smaller."""
    if factor == 1:
        return image
    starts = [np.arange(0, side, factor) for side in image.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(image, starts[0], 0, dtype=np.uint32), starts[1], 1)
    counts = [np.diff(np.append(start, side)) for start, side in zip(starts, image.shape)]
    return (sums / np.multiply.outer(*counts)[..., None] + 0.5).astype(np.uint8)


def _from_ycbcr(region: np.ndarray) -> np.ndarray:
    """RGB of full-range YCbCr (JFIF)."""
    return np.array(Image.fromarray(np.ascontiguousarray(region), "YCbCr").convert("RGB"))
