"""PNG, TIFF, JPEG and npy files as arrays: the values that are stored, all of them, or a refusal."""

import contextlib
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from benchmark.data.files import archive
from benchmark.data.files.archive import Member, Rows
from benchmark.runtime.errors import InputError

Image.MAX_IMAGE_PIXELS = None  # Pillow refuses 179 megapixels, fewer than a slide's region has
_MOST = 1032  # Deflate makes at most so many bytes of one
_BLOCK = 1 << 20  # bytes that are read at once
_MOST_TIFF = 8192  # more than LZW makes of one

TIFF = (".tif", ".tiff")
ORIENTATION = 274  # the tag of EXIF and TIFF; 1 is upright
_GREY_STEPS = {2: 85, 4: 17}  # Pillow spreads grey values of so many bits over 0..255


def shape(path: Path, colours: bool = True) -> tuple[int, ...]:
    """(H, W) or (H, W, channels) of what `array` returns, from the header alone.

    Args:
        colours: as in `array`; here by default, since images have them.

    Raises:
        InputError: unreadable, empty, or a kind of file that `array` refuses, where the header shows it.
    """
    if path.suffix.lower() == ".npy":
        sides = Rows(Member(path, "", (path.name,))).shape
    else:
        with archive.reading(path):
            if path.suffix.lower() in TIFF:
                with tifffile.TiffFile(path) as file:
                    _check_tiff(file, path)
                    sides = file.series[0].shape
            else:
                with _opened(path, str(path)) as picture:
                    bands = 3 if colours and picture.mode == "P" else len(picture.getbands())
                    sides = (*picture.size[::-1], bands) if bands > 1 else picture.size[::-1]
    if len(sides) < 2 or 0 in sides[:2]:
        raise InputError(
            f"{path}: expected an image (height, width, 3), found shape {tuple(sides)}; save it again, or leave it out."
        )
    return tuple(int(side) for side in sides)


def array(path: Path, colours: bool = False) -> np.ndarray:
    """The stored values.

    Args:
        colours: they are colours, not ids: a palette PNG gives its colours instead of its indices, and an alpha channel
            that is opaque everywhere is dropped.

    Raises:
        InputError: unreadable; more than can be taken: 16 bits per channel of a PNG, several images in one file; an
            orientation other than upright; colours of another kind than RGB.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return Rows(Member(path, "", (path.name,))).whole()
    if suffix == ".mat":
        raise InputError(f"{path}: expected a PNG, TIFF or npy file here, found a mat file; save its array as npy.")
    with archive.reading(path):
        if suffix in TIFF:
            with tifffile.TiffFile(path) as file:
                _check_tiff(file, path)
                return _tiff(file, path, colours)
    return _pixels(path, str(path), colours)


def from_bytes(content: bytes, where: str, colours: bool = False) -> np.ndarray:
    """As `array`, of the bytes of a PNG or JPEG file.

    Args:
        where: what the picture is, for sentences.
    """
    return _pixels(io.BytesIO(content), where, colours)


def size_from_bytes(content: bytes, where: str) -> tuple[int, int]:
    """Height and width of the bytes of a PNG or JPEG file, from its header. Raises InputError as `from_bytes`."""
    with archive.reading(where), _opened(io.BytesIO(content), where) as picture:
        return picture.height, picture.width


def _pixels(file: Path | io.BytesIO, where: str, colours: bool) -> np.ndarray:
    """The values of a PNG or JPEG."""
    with archive.reading(where), _opened(file, where) as picture:
        depth = 8
        if picture.format == "PNG":
            depth = _png_header(picture)[1]
            _check_png(picture)
        pixels = _colours(picture) if colours else _ids(picture, depth)
        _check_upright(where, picture.getexif().get(ORIENTATION))  # a PNG may tell it after its pixels
        return pixels


@contextlib.contextmanager
def _opened(file: Path | io.BytesIO, where: str):
    """A picture opened with Pillow, refused where Pillow would take a part of it."""
    try:
        opened = Image.open(file)
    except UnidentifiedImageError as error:  # whose own sentence has the file's name again, or a place in memory
        raise ValueError("it is no picture of a known format") from error
    with opened as picture:
        if picture.format == "PNG":
            size, depth, kind = _png_header(picture)
            if depth == 16 and kind != 0:
                raise InputError(
                    f"{where}: expected 8 bits per channel, found a PNG of 16 bits; divide its values by the largest "
                    "that they can take, multiply by 255 and save them with 8."
                )
            if getattr(picture, "n_frames", 1) > 1:
                raise _several(where, picture.n_frames)
            if picture.width * picture.height * depth / 8 > _MOST * size:
                raise OSError("it ends before its pixels")  # before memory is taken for them
        elif picture.format in ("JPEG", "MPO"):
            _check_upright(where, picture.getexif().get(ORIENTATION))
        yield picture


def _png_header(picture: Image.Image) -> tuple[int, int, int]:
    """Bytes of the file, bits per channel, and the kind of colours (0 = grey); before its pixels are read."""
    stream = picture.fp
    place = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(26)
    stream.seek(place)
    return size, head[24], head[25]


def _check_png(picture: Image.Image) -> None:
    """Compare the checksums of all chunks, before the pixels are read: Pillow passes over those of the pixels, and is
    content when it has enough of these.

    Raises:
        OSError: one is wrong, or the file ends before its last chunk.
    """
    stream = picture.fp
    place, kind = stream.tell(), b""
    stream.seek(8)
    while kind != b"IEND":
        head = stream.read(8)
        left, kind = int.from_bytes(head[:4], "big"), head[4:]
        checksum = zlib.crc32(kind)
        while left and (block := stream.read(min(left, _BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        stored = stream.read(4)
        if left or len(stored) < 4:
            raise OSError("it ends before its last chunk")
        if stored != checksum.to_bytes(4, "big"):
            raise OSError(f"the checksum of its chunk {kind.decode('latin1')!r} is wrong")
    stream.seek(place)


def _ids(picture: Image.Image, depth: int) -> np.ndarray:
    """Values of a label map: a palette is only a way to store colours, its indices are the ids.

    Args:
        depth: bits per channel of a PNG.
    """
    values = np.asarray(picture)
    return values // _GREY_STEPS.get(depth, 1) if picture.mode == "L" else values


def _colours(picture: Image.Image) -> np.ndarray:
    """Values of an image; with the alpha channel where it is not opaque."""
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        return np.asarray(whole.convert("RGB") if whole.getextrema()[3] == (255, 255) else whole)
    return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)


def _check_tiff(file: tifffile.TiffFile, path: Path) -> None:
    if file.series[0].nbytes > _MOST_TIFF * path.stat().st_size:
        raise OSError("it ends before its pixels")  # before memory is taken for them
    page = file.pages[0]
    parts = list(zip(page.dataoffsets, page.databytecounts))
    # tifffile takes a strip or tile without bytes for one of zeros
    if len(parts) < math.prod(page.chunked) or any(start <= 0 or size <= 0 for start, size in parts):
        raise OSError("a part of its pixels is missing")
    several = [series for series in file.series if not series.keyframe.is_reduced]
    if len(several) > 1:
        raise _several(path, len(several))
    tag = page.tags.get(ORIENTATION)
    _check_upright(path, None if tag is None else tag.value)


def _several(path: Path | str, n: int) -> InputError:
    return InputError(f"{path}: expected one image, found {n} in one file; save the one that is meant.")


def _check_upright(path: Path | str, orientation) -> None:
    """Refuse a picture that viewers turn and most other programs do not: labels fit one of the two only."""
    if orientation not in (None, 0, 1):
        raise InputError(
            f"{path}: its orientation tag is {int(orientation)}, by which some programs turn it and some do not; save "
            "it turned as its labels are, without the tag."
        )


def _tiff(file: tifffile.TiffFile, path: Path, colours: bool) -> np.ndarray:
    """The image of a TIFF at full size; compressions that tifffile does not expand without imagecodecs (LZW), with
    Pillow where that is not installed.

    Raises:
        InputError: neither of them reads it, or its colours are no RGB.
    """
    page = file.pages[0]
    try:
        values = file.asarray()
    except (ValueError, ImportError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        return _with_pillow(file, path)
    kind = page.photometric
    if not colours and kind == tifffile.PHOTOMETRIC.MINISWHITE:
        raise InputError(
            f"{path}: expected a label map in which 0 is the background, found a TIFF in which white is zero "
            "(MINISWHITE), which programs read in two ways; save it as black-is-zero (MINISBLACK)."
        )
    expanded = kind == tifffile.PHOTOMETRIC.YCBCR and page.compression == tifffile.COMPRESSION.JPEG  # to RGB
    others = ("YCBCR", "CIELAB", "ICCLAB", "ITULAB", "SEPARATED")
    if colours and kind is not None and kind.name in others and not expanded:
        raise InputError(f"{path}: expected RGB, found colours stored as {kind.name}; convert it to RGB.")
    rgba = kind == tifffile.PHOTOMETRIC.RGB and values.shape[2:] == (4,)
    if colours and rgba and values.dtype.kind == "u" and (values[..., 3] == np.iinfo(values.dtype).max).all():
        return values[..., :3]
    return values


def _with_pillow(file: tifffile.TiffFile, path: Path) -> np.ndarray:
    page, pixels = file.pages[0], None
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    except Exception:
        pass  # reported below
    sides = file.series[0].shape
    fits = pixels is not None and pixels.shape == sides and pixels.dtype.itemsize == page.dtype.itemsize
    # no page and no bit may be lost, and no value changed: Pillow spreads few bits and turns white-is-zero round
    scaled = page.bitspersample not in (8, 16, 32) or page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    if not fits or scaled:
        raise InputError(
            f"{path}: this kind of TIFF is not read ({page.dtype} {sides}, compression "
            f"{getattr(page.compression, 'name', page.compression)}); {_codecs()}save it uncompressed or with zlib."
        )
    return pixels.view(page.dtype)


def _codecs() -> str:
    """The advice to install tifffile's codecs, where they are not."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return "install its codecs (pip install 'imagecodecs', or this package's extra [codecs]), or "
    return ""
