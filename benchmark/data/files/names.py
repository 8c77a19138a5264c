"""Names of files and images, compared as a person would: whatever program and system wrote them."""

import re
import unicodedata
from pathlib import Path

PREDICTED = "nuclei.csv"  # what `predict` writes beside x.tif (label map), x.geojson (outlines) and x.png (a picture)
SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".jpg", ".jpeg", ".mat", ".npz", ".json", ".geojson", ".zip", ".roi")
PACKED = (".geojson.gz", ".json.gz", ".geojson.zip", ".json.zip")


def normal(text: str) -> str:
    """One form of letters (macOS writes é as e and its accent), and no blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def key(name: str | Path) -> str:
    """What the forms of one name have in common: capitals or not, as macOS and Windows have it, letters in one form."""
    return normal(str(name)).casefold()


def number(text: str) -> int | None:
    """The whole number that a text of up to 18 digits is, None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def twice(names) -> str | None:
    """A name of which another is a form, None where all are distinct."""
    known: set[str] = set()
    for name in names:
        if key(name) in known:
            return name
        known.add(key(name))
    return None


def stem(name: str | Path) -> str:
    """The image's name: of a path, with / or \\, the last part without the ending of a known kind of file.

    What follows another dot belongs to the name (TCGA-A7-A13E.AB12), and the .ome of an OME-TIFF to the ending.
    """
    last = re.split(r"[/\\]", str(name))[-1]
    if last.lower().endswith(PACKED):
        last = last.rpartition(".")[0]
    for suffix in SUFFIXES:
        if last.lower().endswith(suffix) and len(last) > len(suffix):
            last = last[: -len(suffix)]
            if suffix in (".tif", ".tiff") and last.lower().endswith(".ome"):
                last = last[: -len(".ome")]
            break
    return normal(last)


def compared(*sides: list[str]) -> list[list[str]]:
    """Keys of images' names, of several lists that are compared: of their stems, so that images/a.png is a.

    Of the whole names where two of one list share a stem, such as those of files in several folders.
    """
    stems = [[key(stem(name)) for name in names] for names in sides]
    if all(len(set(each)) == len(each) for each in stems):
        return stems
    return [list(map(key, names)) for names in sides]


def listing(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of these kinds in a folder, sorted; without hidden ones, such as the ._x that macOS puts beside x."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
    )


def predicted(folder: Path) -> dict[Path, Path]:
    """Label map -> outlines of the same nuclei, of a folder that `predict` wrote; empty for other folders."""
    if not (folder / PREDICTED).is_file():
        return {}
    pairs = {path: path.with_suffix(".geojson") for path in listing(folder, (".tif",))}
    return {path: outlines for path, outlines in pairs.items() if outlines.is_file()}
