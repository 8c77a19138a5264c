"""Names of files and images, compared as a person would: whatever program and system wrote them."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

from benchmark.runtime.errors import InputError

PREDICTED = "nuclei.csv"  # what `predict` writes beside x.tif (label map), x.geojson (outlines) and x.png (a picture)
SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".jpg", ".jpeg", ".mat", ".npz", ".json", ".geojson", ".zip", ".roi")
SUFFIXES += (".svs", ".ndpi", ".scn")
# pictures that no part of the benchmark reads
UNREAD = (".bmp", ".gif", ".webp", ".jp2", ".j2k", ".jxl", ".heic", ".dcm", ".pnm", ".ppm", ".eps", ".psd", ".raw")
UNREAD += (".svs", ".ndpi", ".mrxs", ".scn", ".vsi", ".czi", ".bif", ".vms", ".lif", ".nd2", ".zarr", ".h5")
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


def one_spelling(words) -> tuple[list[str], str]:
    """(the words, each spelt as the first of its forms, see `key`; the other spellings in a phrase, "" for none)."""
    first: dict[str, str] = {}
    others: dict[str, set[str]] = {}
    for word in words:
        if (kept := first.setdefault(key(word), word)) != word:
            others.setdefault(kept, set()).add(word)
    remark = "; ".join(f"{', '.join(map(repr, sorted(spellings)))} as {kept!r}" for kept, spellings in others.items())
    return [first[key(word)] for word in words], remark


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
    """Files of these kinds in a folder, sorted; without hidden ones, such as the ._x that macOS puts beside x.

    Raises:
        InputError: a name that no text can hold.
    """
    paths = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
    )
    for path in paths:
        check(path)
    return paths


def check(path: Path) -> None:
    """Raises InputError for a file whose name no text can hold, such as one in Latin-1 on a system that has UTF-8.

    It would stop the writing of results, which hold it, hours later.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path.parent}: expected names in UTF-8, found {path.name!a}; rename it.") from error


def unread(folder: Path, but: tuple[str, ...] = ()) -> str:
    """What lies beside images and is a picture of another kind, in words; "" for none.

    Such as "3 pictures are not read (.bmp: 2, .svs: 1); save them as PNG or TIFF".

    Args:
        but: endings of UNREAD that are read.
    """
    if not folder.is_dir():
        return ""
    endings = Counter(path.suffix.lower() for path in folder.iterdir() if path.name[0] != ".")
    counts = {ending: n for ending, n in sorted(endings.items()) if ending in UNREAD and ending not in but}
    listed = ", ".join(f"{ending}: {n}" for ending, n in counts.items())
    total = sum(counts.values())
    what = "picture is" if total == 1 else "pictures are"
    return f"{total} {what} not read ({listed}); save them as PNG or TIFF" if counts else ""


def predicted(folder: Path) -> dict[Path, Path]:
    """Label map -> outlines of the same nuclei, of a folder that `predict` wrote; empty for other folders."""
    if not (folder / PREDICTED).is_file():
        return {}
    pairs = {path: path.with_suffix(".geojson") for path in listing(folder, (".tif",))}
    return {path: outlines for path, outlines in pairs.items() if outlines.is_file()}
