"""Micrometres per pixel that a TIFF states: of Aperio, OME or ImageJ, or by its tags of resolution."""

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import tifffile

from benchmark.data.files import aperio, archive, raster
from benchmark.runtime.errors import InputError, short

LEAST, MOST = 0.02, 5.0  # micrometres per pixel that microscopes have
SAME = 0.05  # relative difference of two resolutions that are taken for one
_MAGNIFIED = 10.0  # magnification x micrometres per pixel of common scanners: 40 x 0.25
_NEAR = (0.6, 1.6)  # of that, what still belongs together
_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "nm": 1e-3, "Å": 1e-4, "in": 25400.0}
_IMAGEJ = {"micron": 1.0, "microns": 1.0, "um": 1.0, "\\u00B5m": 1.0} | _MICROMETRES
_TAGS = {tifffile.RESUNIT.INCH: 25400.0, tifffile.RESUNIT.CENTIMETER: 1e4}
_TAGS |= {tifffile.RESUNIT.MILLIMETER: 1e3, tifffile.RESUNIT.MICROMETER: 1.0}


def differs(mpp: float, seen: float) -> bool:
    """Whether images of `mpp` µm/px are resampled for a network that sees `seen` µm/px."""
    return abs(mpp / seen - 1) > SAME


def of_image(path: Path) -> float | None:
    """Micrometres per pixel that an image file states; None where it states none, or one that no microscope has.

    Only TIFFs state one that means anything: other pictures state the dots per inch of a screen or printer.

    Raises:
        InputError: unreadable, or its pixels are not square.
    """
    if path.suffix.lower() not in raster.TIFF:
        return None
    with archive.reading(path), tifffile.TiffFile(path) as file:
        stated = stated_by(file)
    if stated is None or not all(LEAST <= side <= MOST for side in stated):
        return None
    return one(stated, path)


def of_slide(file: tifffile.TiffFile, path: Path, stated: tuple[float, float] | None = None) -> float:
    """Micrometres per pixel of a slide at full resolution.

    Args:
        stated: along x and y, of a kind of file whose entries `stated_by` does not read.

    Raises:
        InputError: it states none, one that no microscope has, another along x than along y, or one that does not
            belong to the magnification that it states.
    """
    written = _aperio(file).get("MPP")
    if written is not None and _number(written) is None:
        raise InputError(
            f"{path}: states '{short(str(written))}' micrometres per pixel, expected a number from {LEAST} to {MOST}; "
            "give them with --mpp."
        )
    stated = stated or stated_by(file)
    if stated is None:
        raise InputError(f"{path}: states no resolution; give its micrometres per pixel with --mpp.")
    if not all(LEAST <= side <= MOST for side in stated):
        raise InputError(
            f"{path}: states {stated[0]:.4g} micrometres per pixel, expected {LEAST} to {MOST}; give them with --mpp."
        )
    mpp, magnification = one(stated, path), _aperio(file).get("AppMag")
    if isinstance(magnification, int | float) and magnification > 0:
        low, high = (share * _MAGNIFIED / magnification for share in _NEAR)
        if not low <= mpp <= high:
            raise InputError(
                f"{path}: states a magnification of {magnification:g} and {mpp:.4g} micrometres per pixel, which do "
                "not belong together; give the micrometres per pixel with --mpp."
            )
    return mpp


def one(stated: tuple[float, float], path: Path) -> float:
    """The resolution of square pixels. Raises InputError where they are not."""
    x, y = stated
    if abs(x / y - 1) > SAME:
        raise InputError(
            f"{path}: states {x:.4g} micrometres per pixel along x and {y:.4g} along y, expected square pixels; give "
            "one with --mpp (in Python mpp=…)."
        )
    return (x + y) / 2


def stated_by(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """Micrometres per pixel (x, y) of the first image, whatever they are; None where the file states none."""
    mpp = _number(_aperio(file).get("MPP"))
    if mpp is not None:
        return mpp, mpp
    return (_ome(file.ome_metadata) if file.is_ome else None) or _tags(file)


def _number(value) -> float | None:
    """The value as a number above 0; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None


def _aperio(file: tifffile.TiffFile) -> dict:
    """Entries of Aperio's description, numbers as numbers; empty for other files."""
    return tifffile.tifffile.svs_description_metadata(file.pages.first.description) if file.is_svs else {}


def _ome(text: str | None) -> tuple[float, float] | None:
    """PhysicalSizeX and PhysicalSizeY of the first image of OME's XML."""
    try:
        parser = ET.XMLParser(target=aperio.Plain())
        parser.feed(text or "")
        pixels = parser.close().find(".//{*}Pixels")
    except (ET.ParseError, ValueError):
        return None
    sides = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}", "") if pixels is not None else ""
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm") if pixels is not None else ""
        if unit not in _MICROMETRES or not re.fullmatch(r"[\d.]+(e-?\d+)?", size, re.IGNORECASE):
            return None
        sides.append(_positive(size, _MICROMETRES[unit]))
    return (sides[0], sides[1]) if all(sides) else None


def _tags(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """By XResolution, YResolution and their unit; ImageJ states its unit apart."""
    tags = file.pages.first.tags
    unit = _TAGS.get(tags.valueof("ResolutionUnit", tifffile.RESUNIT.INCH))
    if file.is_imagej:
        unit = _IMAGEJ.get(str((file.imagej_metadata or {}).get("unit", "")), None)
    sides = []
    for name in ("XResolution", "YResolution"):
        value = tags.valueof(name)
        if unit is None or not (isinstance(value, tuple) and len(value) == 2 and all(v > 0 for v in value)):
            return None
        sides.append(unit * value[1] / value[0])
    return sides[0], sides[1]


def _positive(text: str, unit: float) -> float:
    """The number times the unit; 0 for a text that is no number above 0."""
    try:
        value = float(text) * unit
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
