"""Outlines in a zip or gzip, as QuPath exports them when asked to compress, and what else a zip may hold."""

import gzip
import zipfile
from pathlib import Path

from benchmark.data.files import archive, text
from benchmark.data.files.archive import Member
from benchmark.runtime.errors import InputError

OUTLINES = (".json", ".geojson")
PACKED = (".zip", ".gz")
MOST = 1 << 30  # bytes of outlines that are unpacked: those of some 10^6 nuclei
RATIO = 100  # bytes that one packed byte of them may become; coordinates, indented, become some 25
LEAST = 1 << 20  # bytes that may always be unpacked


def text_of(path: Path) -> str:
    """The text of a file of outlines, packed or not.

    Raises:
        InputError: unreadable, a zip that holds something else, more than 1 GiB, or more than outlines are packed into
            so few bytes.
    """
    suffix = path.suffix.lower()
    most = min(MOST, max(LEAST, RATIO * path.stat().st_size)) if suffix in PACKED else MOST
    if suffix == ".zip":
        member = outlines_in(path)
        if member.size() > most:
            raise _large(path, most)
        return text.read(member)
    if suffix != ".gz":
        return text.read(path)
    try:
        with gzip.open(path) as stream:
            content = stream.read(most + 1)
    except archive.READ_ERRORS as error:
        raise archive.unreadable(path, error) from error
    if len(content) > most:
        raise _large(path, most)
    return text.decoded(content, path)


def check(path: Path) -> None:
    """Raises InputError where a packed file holds no outlines, judged by its names."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        outlines_in(path)
    elif suffix == ".gz" and not is_outlines(path):
        raise InputError(f"{path}: expected a packed .geojson.gz or .json.gz, found '{path.name}'; unpack it.")


def is_outlines(path: Path) -> bool:
    """Whether a file is called x.geojson.gz or x.json.gz."""
    return path.name.lower().endswith(tuple(f"{end}.gz" for end in OUTLINES))


def outlines_in(path: Path) -> Member:
    """The one file of outlines in a zip.

    Raises:
        InputError: unreadable, or anything else in it, which the sentence names.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            names = [info.filename for info in opened.infolist() if not info.is_dir()]
    except archive.READ_ERRORS as error:
        raise archive.unreadable(path, error) from error
    names = [name for name in names if not name.startswith("__MACOSX") and not Path(name).name.startswith(".")]
    if len(names) == 1 and names[0].lower().endswith(OUTLINES):
        return Member(path, names[0], (path.stem, Path(names[0]).name))
    if names and all(name.lower().endswith(".roi") for name in names):
        raise rois(path)
    kinds = sorted({Path(name).suffix or Path(name).name for name in names})
    content = f"{len(names)} files ({', '.join(kinds[:5])}), the first {names[0]}" if names else "nothing"
    raise InputError(f"{path}: expected a zip with one .geojson or .json, found {content}; unpack it, name its folder.")


def rois(path: Path) -> InputError:
    """The sentence for ImageJ's outlines."""
    return InputError(
        f"{path}: ImageJ's ROIs are not read; save the label map instead (Cellpose: io.save_masks; StarDist: the "
        "labels as TIFF, or np.savez('x.npz', **details))."
    )


def _large(path: Path, most: int) -> InputError:
    if most == MOST:
        return InputError(
            f"{path}: expected outlines of one image, found more than {MOST >> 30} GiB of text; divide it."
        )
    return InputError(
        f"{path}: expected packed outlines, found text that takes more than {RATIO} times the bytes of the file; "
        "unpack it yourself if it is meant to be so long."
    )
