"""Numeric arrays of MATLAB's Level 5 files (versions 5 to 7), every length checked against the bytes that are there.

scipy's reader trusts lengths and types in the file: one flipped bit can crash the interpreter. Source of the layout:
"MAT-File Format", The MathWorks, section "Level 5 MAT-File Format".
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np

_HEAD = 128  # bytes before the first element
_COMPRESSED, _MATRIX = 15, 14
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 1 << 11
_MOST = 1 << 30  # bytes of one array


def arrays(content: bytes) -> dict[str, np.ndarray | None]:
    """Name -> array, at least 2-D; None for what is no array of real numbers (text, cells, structures, sparse ones).

    Raises:
        ValueError: damaged. NotImplementedError: version 7.3, or no Level 5 file.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEAD])
    if order is None:
        raise ValueError("it has no head of a MATLAB file")
    if int.from_bytes(content[124:126], "little" if order == "<" else "big") != 0x0100:
        raise NotImplementedError("a version other than 5 to 7")
    out: dict[str, np.ndarray | None] = {}
    for kind, data in _elements(content[_HEAD:], order, padded=False):
        if kind == _COMPRESSED:
            kind, data = _only(_expanded(data, order), order)
        if kind != _MATRIX:
            raise ValueError(f"it has an element of kind {kind} where an array is expected")
        name, array = _array(data, order)
        if name in out:
            raise ValueError(f"it holds '{name}' twice")
        if name:  # MATLAB's own data have none
            out[name] = array
    return out


def _elements(data: bytes, order: str, padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """(kind, bytes) of the elements that follow each other; within arrays they are padded to 8 bytes."""
    at, endian = 0, "little" if order == "<" else "big"
    while at < len(data):
        word = int.from_bytes(data[at : at + 4], endian)
        if word >> 16:  # up to 4 bytes stand within the tag itself
            kind, size, start, end = word & 0xFFFF, word >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError("it has a short element that is too long")
        else:
            kind, size, start = word, int.from_bytes(data[at + 4 : at + 8], endian), at + 8
            end = start + (-(-size // 8) * 8 if padded or kind == _MATRIX else size)
        if start + size > len(data):
            raise ValueError("it ends within an array")
        yield kind, data[start : start + size]
        at = end


def _only(data: bytes, order: str) -> tuple[int, bytes]:
    first = next(_elements(data, order), None)
    if first is None:
        raise ValueError("it has an empty element")
    return first


def _expanded(data: bytes, order: str) -> bytes:
    stream = zlib.decompressobj()
    out = stream.decompress(data, 8)  # its tag, which says the size
    if int.from_bytes(out[4:], "little" if order == "<" else "big") <= _MOST:
        out += stream.decompress(stream.unconsumed_tail, _MOST)
    if not stream.eof:
        raise ValueError("it has a compressed array that is truncated or larger than a gigabyte")
    return out


def _array(data: bytes, order: str) -> tuple[str, np.ndarray | None]:
    """Name and values of one array."""
    parts = list(_limited(_elements(data, order), 4))
    if len(parts) < 3 or len(parts[0][1]) != 8 or parts[1][0] != 5 or parts[2][0] != 1:
        raise ValueError("it has an array without flags, dimensions or name")
    flags = int(np.frombuffer(parts[0][1], f"{order}u4")[0])
    name = parts[2][1].decode("latin1")
    kind = _CLASSES.get(flags & 0xFF)
    if kind is None or flags & _COMPLEX:
        return name, None
    shape = tuple(_numbers(*parts[1], order).tolist())
    if len(parts) < 4 or len(shape) < 2 or len(shape) > 32 or min(shape) < 0:
        raise ValueError(f"it has the array '{name}' without values or dimensions")
    values = _numbers(*parts[3], order)
    if values.size != math.prod(shape):
        raise ValueError(f"its array '{name}' of shape {shape} has {values.size} values")
    return name, values.astype(kind).reshape(shape, order="F")


def _limited(elements: Iterator, count: int) -> Iterator:
    return (element for _, element in zip(range(count), elements))


def _numbers(kind: int, data: bytes, order: str) -> np.ndarray:
    if kind not in _TYPES or len(data) % int(_TYPES[kind][1]):
        raise ValueError("it has numbers of an unknown kind")
    return np.frombuffer(data, order + _TYPES[kind])
