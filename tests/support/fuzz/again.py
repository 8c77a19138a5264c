"""A damaged input read by another reader than ours and written anew: what ours makes of both must be the same.

Each function takes the content of a file and returns that of a whole file with the same values. It raises whatever the
other reader raises where the content does not hold together: a checksum, a length or the syntax is wrong, and ours may
not accept it either, unless it reads the undamaged values. JPEG and LZW have no second reader here, nor any checksum.
"""

import contextlib
import csv
import gzip
import io
import json
import os
import signal
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from xml.dom import minidom

import numpy as np
import pyarrow.parquet as pq
import scipy.io
import tifffile
import torch
from PIL import Image, UnidentifiedImageError

LIMIT = 20  # seconds for a reader in a process of its own


class Unchecked(Exception):
    """Of this content no other reader can tell the values."""


def npy(content: bytes) -> bytes:
    """numpy."""
    return _bytes(lambda f: np.save(f, np.load(io.BytesIO(content), allow_pickle=False)))


def npz(content: bytes) -> bytes:
    """numpy, whose zipfile compares the checksums."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return _bytes(lambda f: np.savez(f, **arrays))


def mat(content: bytes) -> bytes:
    """scipy, in a process of its own, since damaged bytes can crash it."""

    def read(content: bytes) -> bytes:
        arrays = scipy.io.loadmat(io.BytesIO(content))
        numbers = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype.kind in "biuf"}
        return _bytes(lambda f: scipy.io.savemat(f, numbers))

    return _apart(read, content)


def png(content: bytes) -> bytes:
    """Pillow, after the checksums of chunks and pixels are compared here: Pillow does not compare all of them."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    at, pixels, head = 8, b"", b""
    kind = b""
    while kind != b"IEND":
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        data, crc = content[at + 8 : at + 8 + size], content[at + 8 + size : at + 12 + size]
        if len(crc) < 4 or zlib.crc32(kind + data) != int.from_bytes(crc, "big"):
            raise ValueError(f"checksum of {kind!r}")
        head = data if kind == b"IHDR" else head
        pixels += data if kind == b"IDAT" else b""
        at += 12 + size
    zlib.decompress(pixels)
    if head[8] not in (8, 16):
        raise Unchecked("few bits per value")
    return _picture(content, "png")


def jpeg(content: bytes) -> bytes:
    """Pillow, whose pixels are kept as they are in a PNG."""
    return _picture(content, "png")


def tiff(whole: bytes) -> Callable[[bytes], bytes]:
    """Pillow, where ours takes tifffile; where it refuses a tag, the pixels' bytes in the undamaged file.

    Args:
        whole: the undamaged file, of one strip.
    """
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        (start,), (size,) = file.pages[0].dataoffsets, file.pages[0].databytecounts

    def read(content: bytes) -> bytes:
        try:
            with Image.open(io.BytesIO(content)) as picture:
                pixels = np.asarray(picture)
        except UnidentifiedImageError:
            if len(content) != len(whole):
                raise
            return whole[:start] + content[start : start + size] + whole[start + size :]
        return _bytes(lambda f: tifffile.imwrite(f, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack"))

    return read


def json_text(content: bytes) -> bytes:
    """Python's json, of UTF-8, or else of Windows-1252, as programs on Windows write."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")
    return json.dumps(json.loads(text)).encode()


def gzipped(content: bytes) -> bytes:
    """gzip, which compares checksum and length."""
    return gzip.compress(json_text(gzip.decompress(content)))


def toml(content: bytes) -> bytes:
    """tomllib."""
    return _toml(tomllib.loads(_text(content).removeprefix("\ufeff"))).encode()


def csv_text(content: bytes) -> bytes:
    """csv, with commas."""
    text = _text(content).removeprefix("\ufeff")
    if ";" in text or "\t" in text:
        raise Unchecked("perhaps another separator")
    out = io.StringIO()
    csv.writer(out).writerows(csv.reader(io.StringIO(text)))
    return out.getvalue().encode()


def xml(content: bytes) -> bytes:
    """Python's DOM."""
    return minidom.parseString(content).toxml("utf-8")


def parquet(content: bytes) -> bytes:
    """pyarrow, and `png` for the pictures; pages are written anew."""
    table = pq.read_table(io.BytesIO(content))
    for column in table.columns:
        column.validate(full=True)
        for value in column.to_pylist():
            _check_pictures(value)
    return _bytes(lambda f: pq.write_table(table, f))


def _check_pictures(value) -> None:
    """Raises ValueError where the bytes anywhere within a value are no whole PNG."""
    if isinstance(value, bytes):
        with contextlib.suppress(Unchecked):  # of few bits per value, whose checksums were compared
            png(value)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_pictures(each)


def zipped(content: bytes) -> bytes:
    """zipfile, which compares the checksums; npy files within by numpy."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in dict(members).items():
            archive.writestr(zipfile.ZipInfo(name), npy(value) if name.endswith(".npy") else value)
    return out.getvalue()


def pickled(whole: bytes, value: dict) -> Callable[[bytes], bytes]:
    """The arrays' bytes taken from their places in a pickled dict; nothing is unpickled.

    Damage outside of them may not change what is read.

    Args:
        whole, value: the undamaged file and what it holds.
    """
    places = {k: (whole.index(v.tobytes()), v) for k, v in value.items() if isinstance(v, np.ndarray)}

    def read(content: bytes) -> bytes:
        rest, arrays = bytearray(content), {}
        for key, (at, array) in places.items():
            arrays[key] = np.frombuffer(content[at : at + array.nbytes], array.dtype).reshape(array.shape)
            rest[at : at + array.nbytes] = array.tobytes()
        if rest != whole:
            raise ValueError("damaged beside its arrays")
        return _bytes(lambda f: np.save(f, value | arrays))

    return read


def old_pth(content: bytes) -> bytes:
    """torch, of its former layout, which has no checksums."""

    def read(content: bytes) -> bytes:
        return _bytes(lambda f: torch.save(torch.load(io.BytesIO(content), weights_only=True), f))

    return _apart(read, content)


def safetensors(content: bytes) -> bytes:
    """The layout by hand: 8 bytes of length, a JSON head, the tensors."""
    size = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    out, at, new = b"", 0, {}
    for name, entry in head.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= len(data):
            raise ValueError("offsets beyond the data")
        new[name] = entry | {"data_offsets": [at, at + end - start]}
        out, at = out + data[start:end], at + end - start
    packed = json.dumps(new).encode()
    return struct.pack("<Q", len(packed)) + packed + out


def _picture(content: bytes, kind: str) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        plain = picture.copy()
    return _bytes(lambda f: plain.save(f, kind))


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unchecked("another encoding than UTF-8") from None


def _toml(table: dict, path: str = "") -> str:
    lines, below = [], ""
    for key, value in table.items():
        name = json.dumps(key)
        if isinstance(value, dict):
            below += f"[{path}{name}]\n{_toml(value, f'{path}{name}.')}"
        elif isinstance(value, str | bool | int | list):
            lines.append(f"{name} = {json.dumps(value)}\n")
        elif isinstance(value, float):
            lines.append(f"{name} = {value!r}\n")
        else:
            raise Unchecked("a date")
    return "".join(lines) + below


def _bytes(write: Callable) -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def _apart(read: Callable[[bytes], bytes], content: bytes) -> bytes:
    """What `read` returns in a process of its own. Raises ValueError where it raises, crashes or takes too long."""
    source, target = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LIMIT)
            os.close(source)
            with os.fdopen(target, "wb") as stream:
                stream.write(read(content))
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(target)
    with os.fdopen(source, "rb") as stream:
        out = stream.read()
    if os.waitpid(child, 0)[1]:
        raise ValueError("the other reader does not read it")
    return out
