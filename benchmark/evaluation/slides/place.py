"""Where a slide's results go: whose files stand there, what is kept of its tiles, and when new ones take their place.

New files are made in the folder of the tiles, and the old ones stay until all of the new are there.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock

from benchmark.evaluation.slides.outputs import ENDINGS, slide_of
from benchmark.runtime.counts import counted
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import read_json, sweep, write_json

COUNTS = "slides.csv"
COLUMNS = ("slide", "nuclei", "tissue_mm2", "unreadable_tiles")  # of slides.csv, before the types
IDENTITY = "identity.json"  # of the tiles that are kept, in their folder
LOCK = "lock"
_TILE = re.compile(r"\d+-\d+\.npz|overview\.npz")


def begin_counts(out: Path) -> None:
    """Remove the slides.csv of an earlier call: until this one ends it would speak of files that are replaced.

    Raises:
        InputError: it is a file of another kind.
    """
    path = out / COUNTS
    if not path.exists():
        return
    try:
        with open(path, encoding="utf-8") as handle:
            first = handle.readline().strip()
    except (OSError, ValueError):
        first = ""
    if tuple(first.split(",")[: len(COLUMNS)]) != COLUMNS:
        raise InputError(
            f"{path}: expected a table of slides of an earlier call, which begins with {','.join(COLUMNS)}, found "
            "another file, which would be overwritten; name another folder, or move it."
        )
    path.unlink()


class Place:
    """The files of a slide in a folder of results.

    Args:
        out, stem: the folder, and the beginning of the files' names.
        identity: by what the results are made, as JSON.
        path: of the slide, for sentences.

    Attributes:
        facts: <stem>.json, which says what the files beside it are of.
        work: the folder of the tiles that are kept.
    """

    def __init__(self, out: Path, stem: str, identity: dict, path: Path):
        self.facts, self.work = out / f"{stem}{ENDINGS[-1]}", out / f"{stem}.tiles"
        self._out, self._stem, self._identity, self._path = out, stem, identity, path
        self._files = [out / f"{stem}{ending}" for ending in ENDINGS]

    def done(self) -> dict | None:
        """The content of <stem>.json where it was made by the same, and its other files are there.

        What a call that was killed at its end left of the tiles is removed, and the slide's present name is written.
        """
        try:
            content = read_json(self.facts)
            same = content["identity"] == self._identity
            same &= {"nuclei", "by_type", "tissue_mm2", "unreadable"} <= content.keys()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not same or not all(file.exists() for file in self._files):
            return None
        if self._kept_for() is not None:
            with contextlib.suppress(InputError), self.alone():
                self._empty()
        if content.get("slide") != self._path.name:  # a copy under another ending
            content["slide"] = self._path.name
            write_json(self.facts, content)
        return content

    def check(self) -> None:
        """Raises InputError where results would take the place of another slide's, of an image's, or of files that are
        no results."""
        image = [self._out / f"{self._stem}{ending}" for ending in (".tif", ".png", ".geojson")]
        if not self.facts.exists() and all(file.exists() for file in image):
            raise InputError(
                f"{self._path}: {image[1]} is of an image of this name and would be overwritten; name another folder."
            )
        slide, tiles = slide_of(self.facts), self._kept_for()
        if self.facts.exists() and slide != self._identity["slide"]:
            whose = "is of another slide of this name, as the files beside it," if slide else "is no result of a slide"
            raise InputError(
                f"{self._path}: {self.facts} {whose} and would be overwritten; name another folder, or remove it."
            )
        if self.work.exists() and tiles is None and (others := self._others()):
            raise InputError(
                f"{self._path}: {self.work} is where tiles are kept, and holds files that are none ({others[0]}); name "
                "another folder for the results, or move it."
            )
        if slide is None and tiles is None and (there := [file for file in self._files if file.exists()]):
            raise InputError(
                f"{self._path}: {there[0]} is no result of a slide (no {self.facts.name} says so) and would be "
                "overwritten; name another folder, or move it."
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """The folder of the tiles for this process alone. Raises InputError where another one has it."""
        self.work.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.work / LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise InputError(f"{self._path}: another process predicts it into {self._out}; wait for it.") from error
        try:
            yield
        finally:
            lock.release()

    def begin(self) -> None:
        """Remove what killed calls left half-written, and tiles of another slide, other settings or other weights."""
        sweep(self.work)
        for ending in ENDINGS:
            sweep(self._out, f"{self._stem}{ending}.")
            (self.work / f"{self._stem}{ending}").unlink(missing_ok=True)
        earlier = self._kept_for()
        if earlier == self._identity:
            return
        kept = [one for one in self.work.iterdir() if _TILE.fullmatch(one.name)]
        if kept:
            count = counted(sum(one.name != "overview.npz" for one in kept), "tile")
            print(
                f"{self._path}: {count} kept by other settings or weights, or of another file"
                f"{_differences(earlier, self._identity)}; it begins anew",
                file=sys.stderr,
            )
        for one in kept:
            one.unlink()
        write_json(self.work / IDENTITY, self._identity)

    def finish(self, summary: dict) -> None:
        """Put the files that were made in the folder of the tiles in the place of the old ones, <stem>.json last.

        <stem>.json goes first: who is killed between leaves files that nothing calls a result, and the next call makes
        them anew from the tiles.
        """
        made = [self.work / file.name for file in self._files]
        write_json(made[-1], summary | {"identity": self._identity})
        for file in reversed(self._files):  # all, before the first new one: those of two calls never stand together
            file.unlink(missing_ok=True)
        for new, file in zip(made, self._files):
            os.replace(new, file)
        self._empty()

    def _kept_for(self) -> dict | None:
        """By what the tiles are made that are kept; None where there are none, or the folder is none of ours."""
        try:
            content = read_json(self.work / IDENTITY)
        except (OSError, ValueError):
            return None
        ours = isinstance(content, dict) and {"version", "slide", "method", "settings"} <= content.keys()
        return content if ours else None

    def _others(self) -> list[str]:
        """Names in the folder of tiles, less those of a call that was killed before it said what they are of."""
        if not self.work.is_dir():
            return ["it is a file"]
        names = sorted(one.name for one in self.work.iterdir())
        return [name for name in names if name != LOCK and not re.fullmatch(rf"\.{IDENTITY}\..*\.tmp", name)]

    def _empty(self) -> None:
        """Remove the folder of tiles, but no file in it that is none of ours; what says whose it is goes last."""
        sweep(self.work)
        for one in self.work.iterdir():
            if _TILE.fullmatch(one.name) or one.name in {file.name for file in self._files}:
                one.unlink()
        for name in (IDENTITY, LOCK):
            (self.work / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # holds files of the user's
            self.work.rmdir()


def _differences(before: dict | None, now: dict) -> str:
    """ " (batch 8, now 4)": the settings of two identities that differ."""
    old, new = ((one or {}).get("settings") for one in (before, now))
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ""
    words = [f"{name} {old.get(name)}, now {value}" for name, value in new.items() if old.get(name) != value]
    return f" ({'; '.join(words)})" if words else ""


def left_out(error: InputError, facts: Path) -> str:
    """Why a slide is left out, and what stands in the place of its results."""
    why = str(error).rstrip(".")
    earlier = slide_of(facts) is not None and str(facts) not in why
    return f"{why}; {facts} and the files beside it are of an earlier call" if earlier else why
