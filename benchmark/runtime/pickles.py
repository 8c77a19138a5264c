"""Reads pickled files without executing anything in them and without trusting a length in them.

Names in a file become the objects of `stand_ins`; instructions that plain values do not need are refused: persistent
ids, registered extensions, buffers outside the file, instances of classes. Source: Python's Lib/pickletools.py.
"""

import io
import pickle
from pathlib import Path
from types import FunctionType

import numpy as np

from benchmark.runtime.errors import InputError
from benchmark.runtime.stand_ins import ADMITTED, Array, DType, Refused, each, hashable, settled


def read_npy(path: Path, expected: str, remedy: str):
    """The value that `np.save` pickled into an .npy file, with the replacements that `stand_ins` lists.

    Args:
        expected: what the file should hold, as a noun, for the messages.
        remedy: what to do about a file that is refused.

    Raises:
        InputError: unreadable, not pickled, damaged, or holding anything but plain values and arrays.
    """
    try:
        with open(path, "rb") as stream:
            shape, dtype = header(stream)
            content = stream.read() if dtype.kind == "O" else None  # a plain array may be larger than the memory
    except Exception as error:  # a damaged header fails in any way
        raise InputError(f"{path} cannot be read ({_reason(error)}): expected {expected}; copy it again.") from error
    if content is None:
        raise InputError(f"{path}: expected {expected}, found {dtype} of shape {shape}.")
    try:
        return settled(_Reader(content).load())
    except Refused as error:
        raise InputError(
            f"{path} holds pickled content that is not read ({_reason(error)}): expected {expected}; {remedy}."
        ) from error
    except Exception as error:  # damaged or hostile bytes fail in any way; nothing of them was executed
        raise InputError(f"{path} cannot be read ({_reason(error)}): expected {expected}; {remedy}.") from error


def header(stream) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an .npy file, which is left at its content. Raises ValueError and others when damaged."""
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    return shape, dtype


_NOT_PLAIN = (
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.PERSID, pickle.BINPERSID),
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


class _Reader(pickle._Unpickler):
    """Python's own unpickler in which instructions that call, build or trust a length are replaced by checked ones.

    Not the one in C: it allocates as many memo entries as a file announces.
    """

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content))
        self.size = len(content)
        self.left = 32 * len(content)  # what calls may take: a value is used once or twice, not a thousand times

    def find_class(self, module, name):
        if f"{module}.{name}" not in ADMITTED:
            raise Refused(f"it asks for {module}.{name}")
        return ADMITTED[f"{module}.{name}"]

    def _spend(self, values):
        """Limit what calls may take: many calls on one long value that the file holds once would fill the memory."""
        self.left -= sum(len(value) for value in values if hasattr(value, "__len__"))
        if self.left < 0:
            raise Refused("it makes more values than it has bytes")

    def _target(self, kind: type):
        if type(self.stack[-1]) is not kind:
            raise Refused(f"it adds to a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]

    def _reduce(self):
        arguments, function = each((self.stack.pop(),), tuple)[0], self.stack[-1]
        if type(function) not in (FunctionType, type):  # only `find_class` puts such there
            raise Refused("it calls something that is no function")
        self._spend(arguments)
        self.stack[-1] = function(*arguments)

    def _build(self):
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) not in (Array, DType):
            raise Refused(f"it sets attributes of a {type(target).__name__}")
        self._spend(each((state,), tuple)[0])
        target.__setstate__(state)

    def _set_item(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._target(dict)[hashable((key,))[0]] = value

    def _set_items(self):
        items = self.pop_mark()
        self._target(dict).update(zip(hashable(items[::2]), items[1::2], strict=True))

    def _make_dict(self):
        items = self.pop_mark()
        self.append(dict(zip(hashable(items[::2]), items[1::2], strict=True)))

    def _append(self):
        value = self.stack.pop()
        self._target(list).append(value)

    def _appends(self):
        items = self.pop_mark()
        self._target(list).extend(items)

    def _add_items(self):
        items = self.pop_mark()
        self._target(set).update(hashable(items))

    def _make_frozenset(self):
        items = self.pop_mark()  # which also sets another `append`
        self.append(frozenset(hashable(items)))

    def _make_bytearray(self):
        length = int.from_bytes(self.read(8), "little")
        if length > self.size:  # Python would allocate first
            raise Refused(f"it announces {length} bytes, and has {self.size}")
        self.append(bytearray(self.read(length)))

    def _refuse(self):
        raise Refused("it has instructions that plain values do not need")

    dispatch = pickle._Unpickler.dispatch | {
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _make_dict,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _make_frozenset,
        pickle.BYTEARRAY8[0]: _make_bytearray,
        **dict.fromkeys((code[0] for code in _NOT_PLAIN), _refuse),
    }


def _reason(error: Exception) -> str:
    """One short line about an error that a file's content may have shaped."""
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply" if isinstance(error, RecursionError) else "it needs too much memory"
    spoken = isinstance(error, pickle.UnpicklingError | OSError | ValueError)
    return line(str(error) if spoken else f"it is damaged: {type(error).__name__}")


def line(text: str) -> str:
    """The text of a file as a part of a sentence: one line, short and printable."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:160])
