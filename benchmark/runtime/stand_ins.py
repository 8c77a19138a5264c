"""Replacements for the names in a pickled file: plain values and arrays, checked before they are constructed.

numpy's own way of filling a pickled array (`ndarray.__setstate__`) trusts the file: a few bytes with a hostile dtype
crash the interpreter. Here neither numpy's functions nor any others named in a file are ever called. Each admitted name
(`ADMITTED`) has a stand-in, which checks its arguments:

| in the file | value |
|---|---|
| arrays and scalars of bool, int, uint, float | the same, in the machine's byte order |
| arrays and scalars of text (U, S) | str, or nested lists of str |
| arrays of objects | nested lists; the object itself when 0-d, as `np.save` wraps a dict |
| paths | pure paths, which touch no file system |
| OrderedDict | dict |
| dict, list, tuple, set, frozenset, str, bytes, bytearray, numbers, None | the same |

Anything else is refused: records, dates, complex arrays, functions, classes, persistent ids, registered extensions.
What numpy writes: `array_reduce` and `arraydescr_reduce` in its _core/src/multiarray (methods.c, descriptor.c), and
`_frombuffer` in its _core/numeric.py.
"""

import math
import pathlib
import pickle
import re
import sys
from types import FunctionType

import numpy as np

SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}
MAX_DIMENSIONS = 32
_BYTES = (bytes, bytearray)
_LEAVES = {str, bytes, int, float, bool, type(None)}
_KEYS = (str, bytes, int, float, complex, bool, type(None), np.generic, pathlib.PurePath)


class Refused(pickle.UnpicklingError):
    """Pickled content that is whole, but neither a plain value nor an array of numbers or text."""


def settled(value, done: dict | None = None):
    """`value` with arrays in place of their stand-ins, changed in place within dicts and lists.

    To be called on what `torch.load` returns with `STAND_INS` admitted.

    Raises:
        Refused: an array whose content does not fit its shape and dtype, a value that holds itself, a bare function.
        RecursionError: nested too deeply.
    """
    if type(value) in _LEAVES:
        return value
    if type(value) is FunctionType or value is Array or value is DType:
        raise Refused("it holds a function where a value is expected")
    if not isinstance(value, Array | DType | dict | list | tuple):
        return value
    done = {} if done is None else done  # id -> (the object, kept alive so that its id stays its own; its value)
    if id(value) in done:
        if done[id(value)][1] is None:
            raise Refused("it holds a value that holds itself")
        return done[id(value)][1]
    done[id(value)] = value, None
    out = value
    if isinstance(value, Array):
        out = value.array()
        out = settled(out, done) if value.parts[0].kind == "O" else out
    elif isinstance(value, DType):
        out = value.numpy()
    elif type(value) is tuple:
        items = [settled(item, done) for item in value]
        out = value if all(a is b for a, b in zip(value, items)) else tuple(items)
    elif not isinstance(value, tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            value[key] = settled(item, done)
    done[id(value)] = value, out
    return out


class DType:
    """Stands in for numpy.dtype: kind, bytes per item and byte order, and nothing that numpy has not checked."""

    __slots__ = ("kind", "order", "size")
    __hash__ = None

    def __init__(self, code, align=False, copy=True):
        match = re.fullmatch(r"([biufSUO])([0-9]{0,9})", code) if type(code) is str else None
        kind, number = (match[1], int(match[2] or 0)) if match else ("", 0)
        if not (number in SIZES[kind] if kind in SIZES else kind == "O" or (kind and number)):
            raise Refused(f"it holds an array of kind {code if type(code) is str else '?':.20}")
        self.kind, self.size, self.order = kind, 4 * number if kind == "U" else number, "="

    def __setstate__(self, state):
        """`(3, byte order, subarray, names, fields, item size, alignment, flags)`, the middle ones None."""
        fits = type(state) is tuple and len(state) == 8 and state[0] == 3 and state[2:5] == (None, None, None)
        if not fits or state[1] not in ("<", ">", "|", "=") or state[5] not in (-1, self.size):
            raise Refused("it holds an array of records or of an unknown dtype")
        self.order = state[1]

    def numpy(self) -> np.dtype:
        """The dtype itself; never used for an array of text or objects."""
        size = {"O": "", "U": self.size // 4}.get(self.kind, self.size)
        return np.dtype(f"{self.order}{self.kind}{size}")


class Array:
    """Stands in for numpy.ndarray: holds the state in the file until `array` checks it."""

    __slots__ = ("parts",)
    __hash__ = None

    def __setstate__(self, state):
        """`(1, shape, dtype, whether in Fortran's order, content)`: content is bytes, or a list of objects."""
        if type(state) is not tuple or len(state) != 5 or state[0] != 1:
            raise Refused("it holds an array in an unknown form")
        _, shape, dtype, fortran, content = state
        self.parts = dtype, shape, "F" if fortran else "C", None, content

    def array(self):
        """Array, or str, object and nested lists of them. Raises Refused when the parts do not fit."""
        if not hasattr(self, "parts"):
            raise Refused("it holds an array without content")
        dtype, shape, order, axes, content = self.parts
        if type(dtype) is not DType:
            raise Refused("it holds an array without a dtype")
        count = _count(shape, dtype.size)
        if dtype.kind == "O":  # always listed in C's order
            if type(content) is not list or len(content) != count:
                raise Refused("it holds a list of objects that does not fit its shape")
            return _nested(content, shape)
        if type(content) not in _BYTES or len(content) != count * dtype.size:
            size = f"{len(content)} bytes" if type(content) in _BYTES else f"a {type(content).__name__}"
            raise Refused(
                f"it holds an array of shape {shape!s:.60}, {dtype.size} bytes per item, but {size} of content"
            )
        if axes is not None and (not _flat(axes) or sorted(axes) != list(range(len(shape)))):
            raise Refused("it holds an array with unknown axes")
        axes = range(len(shape)) if axes is None else axes
        if dtype.kind in "US":
            places = np.arange(count).reshape(shape, order=order).transpose(axes)
            texts = _texts(dtype, bytes(content))
            return _nested([texts[i] for i in places.ravel()], places.shape)
        kept = np.dtype("u1") if dtype.kind == "b" else dtype.numpy()  # a bool is one of two bytes, a file has 256
        flat = np.frombuffer(content, kept) if count else np.zeros(0, kept)
        out = flat.reshape(shape, order=order).transpose(axes)
        return out != 0 if dtype.kind == "b" else out.astype(kept.newbyteorder("="))


def _count(shape, size: int) -> int:
    """Number of items of an array, of which numpy can address even the empty ones."""
    if not _flat(shape) or min(shape, default=0) < 0:
        raise Refused(f"it holds an array of shape {shape if _flat(shape) else '?'!s:.60}")
    if math.prod(max(n, 1) for n in shape) * max(size, 8) > sys.maxsize:
        raise Refused("it holds an array of a shape beyond all memory")
    return math.prod(shape)


def _flat(shape) -> bool:
    """Whether `shape` is a short tuple of integers of a machine's size; a hostile one cannot even be printed."""
    return (
        type(shape) is tuple
        and len(shape) <= MAX_DIMENSIONS
        and all(type(n) is int and abs(n) <= sys.maxsize for n in shape)
    )


def _nested(items: list, shape: tuple[int, ...]):
    """Lists of lists; the item itself for a shape (), and [] for any empty one."""
    for n in reversed(shape[1:]):
        items = [items[i : i + n] for i in range(0, len(items), n)] if items else []
    return list(items) if shape else items[0]


def _texts(dtype: DType, content: bytes) -> list[str]:
    """The texts of a buffer; UTF-8 where numpy keeps bytes. Raises UnicodeDecodeError for no characters."""
    little = dtype.order == "<" or (dtype.order in "=|" and sys.byteorder == "little")
    codec = "utf-8" if dtype.kind == "S" else "utf-32-le" if little else "utf-32-be"
    errors = "replace" if dtype.kind == "S" else "strict"
    items = (content[i : i + dtype.size] for i in range(0, len(content), dtype.size))
    return [item.decode(codec, errors).rstrip("\0") for item in items]


def _reconstruct(subtype, shape, code):
    """An array whose state follows; `shape` and `code` are those of an empty one."""
    if subtype is not Array:
        raise Refused("it holds an array of an unknown class")
    return Array()


def _from_buffer(content, dtype, shape, order, axes=None):
    """An array of protocol 5, whose buffer is in the file; with order "K" comes a permutation of the axes."""
    if (axes is None and order not in ("C", "F")) or (axes is not None and order != "K"):
        raise Refused("it holds an array in an unknown order")
    out = Array()
    out.parts = dtype, shape, "C" if order == "K" else order, axes, content
    return out


def _scalar(dtype, content):
    """A numpy scalar, or str; converted immediately, since it may be a key."""
    if type(dtype) is not DType or dtype.kind == "O":
        raise Refused("it holds a number of an unknown kind")
    out = Array()
    out.parts = dtype, (), "C", None, content
    value = out.array()
    return value if isinstance(value, str) else value[()]


def _posix_path(*parts):
    return pathlib.PurePosixPath(*each(parts, str))


def _windows_path(*parts):
    return pathlib.PureWindowsPath(*each(parts, str))


def _dict():
    """An OrderedDict, whose items follow; a dict keeps their order as well."""
    return {}


def _set(items=()):
    return set(hashable(each((items,), list, tuple)[0]))


def _frozenset(items=()):
    return frozenset(_set(items))


def _complex(real, imaginary):
    return complex(*each((real, imaginary), float))


def _encode(text, codec="latin1"):
    """bytes as protocol 2 writes them."""
    if type(text) is not str or codec not in ("latin1", "latin-1"):
        raise Refused("it holds bytes in an unknown form")
    return text.encode("latin1")


def _bytes():
    """Empty bytes as protocol 2 writes them."""
    return b""


def _bytearray(content=b"", codec="latin1"):
    """A bytearray of bytes or text; never of a number, which would be a length."""
    return bytearray(content if type(content) is bytes else _encode(content, codec))


def each(values: tuple, *kinds: type) -> tuple:
    """`values`, all of exactly one of these types. Raises Refused."""
    if any(type(value) not in kinds for value in values):
        raise Refused("it makes a plain value of something else")
    return values


def hashable(keys):
    """`keys`, all of them plain or flat tuples: the hash of nested ones takes for ever when parts repeat.

    Raises:
        Refused: other keys.
    """
    for key in keys:
        if not all(isinstance(part, _KEYS) for part in (key if type(key) is tuple else (key,))):
            raise Refused("it holds a dict or set with keys that are not plain")
    return keys


ADMITTED = {  # full name in the file -> stand-in
    "numpy.ndarray": Array,
    "numpy.dtype": DType,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    **{f"pathlib{local}.{pure}PosixPath": _posix_path for local in ("", "._local") for pure in ("", "Pure")},
    **{f"pathlib{local}.{pure}WindowsPath": _windows_path for local in ("", "._local") for pure in ("", "Pure")},
    "collections.OrderedDict": _dict,
    "_codecs.encode": _encode,
}
for _module in ("builtins", "__builtin__"):  # the second in protocol 2
    for _stand_in in (_set, _frozenset, _complex, _bytes, _bytearray):
        ADMITTED[f"{_module}.{_stand_in.__name__[1:]}"] = _stand_in

# for torch.serialization.safe_globals; of names that torch admits by itself its own come first
STAND_INS = [(stand_in, name) for name, stand_in in ADMITTED.items()]
