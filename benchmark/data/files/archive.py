"""Arrays as users hold them: an .npy file in a folder, behind a symlink or inside a zip, read row by row.

Nothing is unpickled and no array is read whole: a published PanNuke fold is 13 GB. Plain reads are used
instead of one memory map of the raw file, since the pages of a map count as resident memory of the process.
"""

import contextlib
import errno
import hashlib
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.data.files import names
from benchmark.runtime.errors import InputError

READ_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError)
WIDEST = 1 << 14  # bytes of one entry of an array: a word of 4096 characters, as long as a path may be
FOLDERS = 10_000  # below a data root: no data set has as many, a disk has
_BLOCKS, _BLOCK = 64, 1 << 14
# failures of the system, which say nothing about the file's content
_OTHERS = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ELOOP)
_OTHERS += (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ENOMEM)


@dataclass(frozen=True)
class Member:
    """A file, either plain or inside a zip.

    Attributes:
        file: the file itself, or the zip that holds it.
        inner: its name inside the zip, "" for a plain file.
        below: path components below the data root, the zip's own name without suffix among them.
    """

    file: Path
    inner: str
    below: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.inner}" if self.inner else str(self.file)

    @property
    def name(self) -> str:
        """`names.key` of the file's name."""
        return names.key(self.below[-1])

    def size(self) -> int:
        """Bytes of the uncompressed file."""
        if not self.inner:
            return self.file.stat().st_size
        with zipfile.ZipFile(self.file) as archive:
            return archive.getinfo(self.inner).file_size

    def open(self):
        """A binary stream; for a zip member, one that decompresses as it is read."""
        if not self.inner:
            return open(self.file, "rb")
        # The archive's handle lives as long as the stream: ZipExtFile keeps its own reference to the file.
        with zipfile.ZipFile(self.file) as archive:
            kind = archive.getinfo(self.inner).compress_type
            try:
                return archive.open(self.inner)
            except NotImplementedError as error:  # of which Python does not say the method
                name = zipfile.compressor_names.get(kind, "an unknown one")
                raise NotImplementedError(f"compression {kind}, {name}") from error

    def read(self, most: int | None = None) -> bytes:
        """The whole content; for small files.

        Args:
            most: bytes that it may have, None for any number: a zip of a megabyte holds a gigabyte of blanks.

        Raises:
            InputError: it cannot be read, or is larger.
        """
        with reading(self):
            if most is not None and self.size() > most:
                raise InputError(
                    f"{self}: expected a small file of at most {most} bytes, found {self.size()}; it is another file "
                    "or damaged."
                )
            with self.open() as stream:
                return stream.read()

    def check(self) -> None:
        """Read a zip member once and compare it with its checksum. Raises InputError where they differ."""
        if self.inner:
            with reading(self), self.open() as stream:
                while stream.read(1 << 20):
                    pass

    def digest(self) -> str:
        """Hex digest: size and checksum of a zip member; size and up to 64 spread blocks of a plain file.

        Raises:
            InputError: it cannot be read.
        """
        with reading(self):
            if self.inner:
                with zipfile.ZipFile(self.file) as archive:
                    info = archive.getinfo(self.inner)
                return f"crc32:{info.CRC:08x}:{info.file_size}"
            with open(self.file, "rb") as stream:
                return f"sampled:{_sampled(stream, self.size())}"


def unlike(first: dict[str, Member], others: list[dict[str, Member]]) -> dict[str, Member] | None:
    """The first of other copies, {name: file}, of which a file has another size than that of the copy that is read."""
    for other in others:
        if any(member.size() != other[name].size() for name, member in first.items() if name in other):
            return other
    return None


def _sampled(stream, size: int) -> str:
    result = hashlib.sha256(str(size).encode())
    starts = range(0, size, _BLOCK)
    if len(starts) > _BLOCKS:
        starts = np.linspace(0, size - _BLOCK, _BLOCKS).astype(np.int64).tolist()
    for start in starts:
        stream.seek(start)
        result.update(stream.read(_BLOCK))
    return result.hexdigest()[:32]


@dataclass
class Listing:
    """The wanted files below a root; `broken` maps a zip that could not be opened to the error."""

    members: list[Member] = field(default_factory=list)
    broken: dict[Path, Exception] = field(default_factory=dict)


def unreadable(what, error: Exception) -> InputError:
    """The sentence for a file that exists but cannot be read."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, NotImplementedError) and "compress" in reason:
        return InputError(
            f"{what} is packed in a way that is not read here ({reason}): unpack it with the program that packed it, "
            "or pack it again with the usual method, Deflate."
        )
    if isinstance(error, RuntimeError) and "encrypted" in reason:
        return InputError(f"{what} is encrypted: unpack it with its password.")
    if isinstance(error, MemoryError):
        return InputError(
            f"{what} cannot be read: it is larger than the memory; cut it into smaller files, or use more memory."
        )
    if isinstance(error, OSError) and error.errno in _OTHERS:
        return InputError(f"{what} cannot be read ({error.strerror}): expected a file that may be read; see to that.")
    return InputError(
        f"{what} cannot be read ({reason}): expected a whole file, found a truncated or corrupt one; "
        "download, copy or extract it again."
    )


@contextlib.contextmanager
def reading(what):
    """Around calls of a format's library: whatever it raises over the content of `what` becomes an InputError.

    Libraries raise errors of any class over damaged bytes: those of their language's parser, of arithmetic, of memory.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise unreadable(what, error) from error


@contextlib.contextmanager
def judging(*members: Member):
    """Around judgements on values of zip members: where one is refused, a wrong checksum is the reason.

    A zip's checksum shows only when a member was read to its end, and a flipped bit looks like any other wrong value.
    """
    try:
        yield
    except InputError:
        for member in members:
            member.check()
        raise


def check_root(root: Path | None, dataset: str) -> Path:
    """The data root, or InputError when none is given or nothing lies there."""
    if root is None:
        raise InputError(f"Dataset '{dataset}' needs its data: say where it lies with DATA_ROOT=<folder or zip>.")
    if not root.exists():
        raise InputError(f"DATA_ROOT '{root}' does not exist: give the folder or zip that holds dataset '{dataset}'.")
    return root


def walk(root: Path, depth: int) -> Iterator[tuple[Path, list[str], list[str]]]:
    """os.walk through symlinks, sorted, at most `depth` folders deep, each real folder once, none hidden.

    Raises:
        InputError: more than FOLDERS folders.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        level = len(Path(folder).relative_to(root).parts)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if len(seen) > FOLDERS:
            raise InputError(
                f"{root}: holds more than {FOLDERS} folders within a depth of {depth}; name the folder that "
                "holds the data."
            )
        folders[:] = sorted(f for f in folders if f[0] != "." and f != "__MACOSX") if level < depth else []
        yield Path(folder), folders, sorted(f for f in files if f[0] != ".")


def find(root: Path, wanted, depth: int = 5) -> Listing:
    """All files named as one of `wanted`, in small letters, below `root` (a folder or one zip), zips looked into."""
    result = Listing()
    if root.is_file():
        _look_into(root, (root.stem,), wanted, result)
        return result
    for folder, _, files in walk(root, depth):
        below = folder.relative_to(root).parts
        for name in files:
            if names.key(name) in wanted:
                result.members.append(Member(folder / name, "", (*below, name)))
            elif name.lower().endswith(".zip"):
                _look_into(folder / name, (*below, Path(name).stem), wanted, result)
    return result


def _look_into(path: Path, below: tuple[str, ...], wanted, result: Listing) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            inner = archive.namelist()
    except Exception as error:  # a damaged directory fails in any way
        result.broken[path] = error
        return
    for name in inner:
        parts = tuple(p for p in re.split(r"[/\\]", name) if p not in ("", "."))
        if parts and names.key(parts[-1]) in wanted and "__MACOSX" not in parts:
            result.members.append(Member(path, name, (*below, *parts)))


class Rows:
    """An .npy array, row by row along its first axis.

    Attributes:
        shape, dtype: as the header says.
        fortran: whether it is stored column by column, and hence can be read as a whole only.

    Raises:
        InputError: not an .npy file; pickled objects; entries wider than WIDEST; shorter or longer than its header
            promises.
    """

    def __init__(self, member: Member):
        self.member = member
        try:
            with member.open() as stream:
                version = np.lib.format.read_magic(stream)
                if version not in ((1, 0), (2, 0)):
                    raise ValueError(f"npy version {version}")
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                self.shape, fortran, self.dtype = reader(stream)
                self.start = stream.tell()
            size = member.size()
        except READ_ERRORS as error:
            raise unreadable(member, error) from error
        except Exception as error:  # numpy parses the header as Python, which fails in any way
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise InputError(
                f"{member} is not a readable .npy file ({reason}): expected an array saved by numpy.save; "
                "download, copy or extract it again."
            ) from error
        if self.dtype.hasobject:
            raise InputError(f"{member} holds pickled objects, which are never executed: save a plain array instead.")
        if self.dtype.itemsize > WIDEST:  # a few packed bytes may claim gigabytes for each
            raise InputError(
                f"{member}: expected numbers or words of at most {WIDEST // 4} characters, found entries of "
                f"{self.dtype.itemsize} bytes ({self.dtype!s:.40}); save them as shorter ones."
            )
        self.fortran = fortran and len(self.shape) > 1
        promised = self.start + self.dtype.itemsize * math.prod(self.shape)  # which numpy's product may overflow
        if size != promised:
            word = "truncated" if size < promised else "longer than its header says"
            raise InputError(
                f"{member} is {word}: its header {self.shape} {self.dtype} promises {promised} bytes, "
                f"found {size}; download, copy or extract it again."
            )

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def identity(self) -> dict:
        """Shape, dtype and digest of the file. Raises InputError when it cannot be read row by row."""
        self._check_order()
        return {"shape": list(self.shape), "dtype": self.dtype.str, "digest": self.member.digest()}

    def rows(self, start: int = 0) -> Iterator[np.ndarray]:
        """Rows from `start`, one at a time, read-only. Raises InputError for Fortran order or a corrupt file."""
        self._check_order()
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        with reading(self.member), self.member.open() as stream:
            stream.seek(self.start + start * step)
            for _ in range(start, len(self)):
                block = stream.read(step)
                if len(block) != step:
                    raise EOFError("the file ends early")
                yield np.frombuffer(block, self.dtype).reshape(self.shape[1:])

    def _check_order(self) -> None:
        if self.fortran:
            raise InputError(
                f"{self.member} is in Fortran order, which cannot be read image by image: "
                "save numpy.ascontiguousarray(array) instead."
            )

    def whole(self) -> np.ndarray:
        """The whole array, also a 0-d one or one in Fortran order; for small ones. Raises InputError when corrupt."""
        with reading(self.member):
            with self.member.open() as stream:
                stream.seek(self.start)
                content = stream.read()
            values = np.frombuffer(content, self.dtype)
            return np.array(values.reshape(self.shape, order="F" if self.fortran else "C"), order="C")
