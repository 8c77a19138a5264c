"""Pickled files: genuine ones read to equal values; hostile and damaged ones end in one sentence, run nothing and crash
nothing."""

import io
import pickle
import pickletools
import random
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch

from benchmark.data.sources import cellvit_layout
from benchmark.formats import cellpose
from benchmark.layers import weights_file
from benchmark.runtime import pickles, stand_ins
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support.shared import shared

ORDINARY = (3, "<", None, None, None, -1, -1, 0)  # the state of a dtype


def npy(path: Path, content: bytes) -> Path:
    """An .npy file that says it holds a 0-d array of objects, with any content."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(stream, header)
    path.write_bytes(stream.getvalue() + content)
    return path


def read(path: Path):
    return pickles.read_npy(path, "a dict", "save it again")


def refused(path: Path, match: str = "") -> str:
    """The sentence that refuses the file."""
    with pytest.raises(InputError, match=match) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "expected a dict" in text and "\n" not in text and len(text) < 600
    return text


def wrapped(value) -> np.ndarray:
    """As np.save wraps what is no array."""
    out = np.empty((), dtype=object)
    out[()] = value
    return out


def same(a, b) -> bool:
    if isinstance(b, np.ndarray):
        return type(a) is np.ndarray and a.dtype == b.dtype.newbyteorder("=") and np.array_equal(a, b, equal_nan=True)
    if isinstance(b, dict):
        return type(a) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def objects(items: list, shape=None) -> np.ndarray:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out if shape is None else out.reshape(shape)


MAP = np.arange(24, dtype=np.int32).reshape(4, 6)
CUBE = np.arange(24.0).reshape(2, 3, 4)
TEXT = np.array([["a", "bé"], ["", "x\U0001f600"], ["q", "r"]])
GENUINE = {  # what was saved, what is read
    "C": (MAP, MAP),
    "Fortran": (np.asfortranarray(MAP), MAP),
    "transposed": (
        np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(24.0).reshape(2, 3, 4).swapaxes(0, 1),
    ),
    "strided": (MAP[::2, 1::2], MAP[::2, 1::2]),
    "big-endian": (MAP.astype(">i4"), MAP),
    "big-endian Fortran": (np.asfortranarray(MAP.astype(">f8")), MAP.astype("f8")),
    "0-d": (np.array(3.5), np.array(3.5)),
    "empty": (np.zeros((0, 5), np.uint16), np.zeros((0, 5), np.uint16)),
    "bool": (MAP % 2 == 0, MAP % 2 == 0),
    "uint8": (MAP.astype(np.uint8), MAP.astype(np.uint8)),
    "uint64": (MAP.astype(np.uint64) << 50, MAP.astype(np.uint64) << 50),
    "float16": (np.array([1.5, np.nan, np.inf], np.float16), np.array([1.5, np.nan, np.inf], np.float16)),
    "text": (TEXT, TEXT.tolist()),
    "text, Fortran": (np.asfortranarray(TEXT), TEXT.tolist()),
    "text, big-endian": (TEXT.astype(">U2"), TEXT.tolist()),
    "bytes": (np.array([b"ab", b"c"]), ["ab", "c"]),
    "text, empty": (np.zeros((3, 0), "U4"), []),
    "objects": (objects([MAP, None, "x"]), [MAP, None, "x"]),
    "objects, Fortran": (np.asfortranarray(objects([1, 2, 3, 4, 5, 6], (2, 3))), [[1, 2, 3], [4, 5, 6]]),
    "objects in objects": (objects([objects([MAP]), []]), [[MAP], []]),
    "numbers": ([np.float64(2.5), np.float32(1), np.int64(-3), np.bool_(True), np.uint16(7)],) * 2,
    "np.str_": (np.str_("né"), "né"),
    "dtype": (np.dtype(">u2"), np.dtype(">u2")),
    "plain": ([None, True, -1, 1 << 80, 0.1, 1 + 2j, "é", b"", b"\xff", bytearray(b"\x80"), (), (1, (2,))],) * 2,
    "sets": ([{1, 2}, frozenset({"a"}), set(), {(1, "a")}],) * 2,
    "paths": ([PurePosixPath("/a/b.png"), PureWindowsPath("C:/x")],) * 2,
    "a path": (Path("/some/where"), PurePath("/some/where")),
    "ordered": (OrderedDict(b=MAP, a=1), {"b": MAP, "a": 1}),
    "keys": ({1: 2, ("a", 3): 4, np.int64(5): 6, b"x": 7, None: 8},) * 2,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("case", GENUINE)
def test_genuine_values(case, protocol, tmp_path):
    saved, wanted = GENUINE[case]
    content = pickle.dumps(wrapped({"x": saved, "again": saved}), protocol)
    found = read(npy(tmp_path / "a.npy", content))
    assert same(found, {"x": wanted, "again": wanted})
    if isinstance(wanted, np.ndarray):
        assert found["x"] is found["again"] and found["x"].flags.writeable
    if protocol < 4:  # numpy 1 named its modules otherwise; Python 3.13 those of paths
        old = content.replace(b"numpy._core.", b"numpy.core.").replace(b"cpathlib\n", b"cpathlib._local\n")
        assert same(read(npy(tmp_path / "b.npy", old)), {"x": wanted, "again": wanted})


def test_seg_file_of_cellpose(tmp_path):
    """Versions 2, 3 and 4: what `io.masks_flows_to_seg` stores."""
    masks = np.zeros((40, 50), np.uint16)
    masks[3:9, 4:11] = 1
    flow = np.zeros((40, 50), np.float32)
    content = {
        "outlines": masks * 0,
        "colors": np.zeros((1, 3), np.uint8),
        "masks": masks,
        "chan_choose": [0, 0],
        "ismanual": np.zeros(1, bool),
        "filename": Path("/data/a.png"),
        "flows": [np.zeros((40, 50, 3), np.uint8), flow, [], [], [np.stack([flow, flow]), None], [[]]],
        "est_diam": np.float64(30),
        "diameter": np.float32(17.5),
        "model_path": 0,
        "imgs": objects([flow, None]),
    }
    np.save(tmp_path / "a_seg.npy", content, allow_pickle=True)
    assert np.array_equal(cellpose.read(tmp_path / "a_seg.npy", None).instances, masks)
    found = read(tmp_path / "a_seg.npy")
    assert list(found) == list(content) and same(found["flows"], content["flows"])
    assert same(found["imgs"], [flow, None]) and found["filename"] == PurePosixPath("/data/a.png")


# --- hostile files, written instruction by instruction ---


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def name(full: str) -> bytes:
    return b"c" + full.rpartition(".")[0].encode() + b"\n" + full.rpartition(".")[2].encode() + b"\n"


def plain(value) -> bytes:
    """Instructions that put a plain value on the stack."""
    return pickletools.optimize(pickle.dumps(value, 3))[2:-1]


def dtype(code: str, state=ORDINARY) -> bytes:
    return name("numpy.dtype") + plain((code, False, True)) + b"R" + (plain(state) + b"b" if state else b"")


def array(kind: bytes, shape=(2,), content=b"A" * 16, fortran: bool = False) -> bytes:
    """An array of any shape, dtype and content."""
    start = name("numpy._core.multiarray._reconstruct") + name("numpy.ndarray") + plain((0,)) + plain(b"b") + b"\x87R"
    return start + b"(K\x01" + plain(shape) + kind + plain(fortran) + plain(content) + b"tb"


def call(function: str, *arguments) -> bytes:
    return name(function) + plain(arguments) + b"R"


def buffer(*order) -> bytes:
    """An array (2, 1) as protocol 5 writes it."""
    start = name("numpy._core.numeric._frombuffer") + b"(" + plain(b"A" * 16) + dtype("f8")
    return start + plain((2, 1)) + b"".join(map(plain, order)) + b"tR"


POINTER = dtype("O8", (3, "|", None, None, None, -1, -1, 0))  # objects that are said not to be counted
HOSTILE = {  # instructions, what the sentence says
    "pointers": (array(POINTER, (), b"A" * 8), "list of objects"),
    "pointers, ordinary": (array(dtype("O8", (3, "|", None, None, None, -1, -1, 63)), (), b"A" * 8), "list of objects"),
    "pointers in a buffer": (
        name("numpy._core.numeric._frombuffer") + b"(" + plain(b"A" * 8) + POINTER + plain((1,)) + plain("C") + b"tR",
        "list of objects",
    ),
    "a pointer as a number": (
        name("numpy._core.multiarray.scalar") + dtype("O8", None) + plain(b"A" * 8) + b"\x86R",
        "number of an unknown kind",
    ),
    "too few objects": (array(dtype("O8", None), (3,), [1, 2]), "list of objects"),
    "too few bytes": (array(dtype("f8"), (3,)), "but 16 bytes of content"),
    "too many bytes": (array(dtype("f8"), (1,)), "but 16 bytes of content"),
    "list as bytes": (array(dtype("f8"), (2,), [1, 2]), "but a list of content"),
    "no number of bytes": (array(dtype("f8"), (2,), 16), "but a int of content"),
    "negative": (array(dtype("f8"), (-2, -1)), r"shape \(-2, -1\)"),
    "overflow": (array(dtype("f8"), (1 << 32, 1 << 32), b""), "beyond all memory"),
    "overflow to none": (array(dtype("f8"), (1 << 62, 0, 4), b""), "beyond all memory"),
    "huge number": (array(dtype("f8"), (1 << 90,)), "array of shape"),
    "dimensions": (array(dtype("f8"), (1,) * 40, b"A" * 8), "array of shape"),
    "list as shape": (array(dtype("f8"), [2]), "array of shape"),
    "float in shape": (array(dtype("f8"), (2.0,)), "array of shape"),
    "no dtype": (array(plain("f8")), "without a dtype"),
    "two bytes of int": (array(dtype("i3")), "kind i3"),
    "long double": (array(dtype("f16"), (1,)), "kind f16"),
    "complex": (array(dtype("c16"), (1,)), "kind c16"),
    "date": (array(dtype("M8")), "kind M8"),
    "void": (array(dtype("V8")), "kind V8"),
    "record": (array(dtype("V8", (3, "|", None, ("a",), {"a": 0}, 8, 1, 0))), "kind V8"),
    "fields of a number": (array(dtype("f8", (3, "<", None, ("a",), {"a": 0}, 8, 1, 0))), "records"),
    "sub-array": (array(dtype("f8", (3, "<", (0, (1000,)), None, None, 8, 1, 0))), "records"),
    "another size": (array(dtype("f8", (3, "<", None, None, None, 1 << 30, 1, 0))), "records"),
    "longer text": (array(dtype("U2", (3, "<", None, None, None, 800, 4, 0))), "records"),
    "text without length": (array(dtype("U0"), (1 << 40,), b""), "kind U0"),
    "no characters": (array(dtype("U2"), (2,), b"\xff" * 16), "cannot be read .*utf-32"),
    "unknown version": (array(dtype("f8", (9, "<", None, None, None, -1, -1, 0))), "records"),
    "without content": (name("numpy.ndarray") + b")R", "without content"),
    "a function": (name("numpy._core.multiarray._reconstruct"), "a function where a value"),
    "axes": (buffer("K", (0, 0)), "unknown axes"),
    "order": (buffer("Z"), "unknown order"),
    "record class": (name("numpy.record"), "asks for numpy.record"),
    "long bytearray": (call("builtins.bytearray", 1 << 60), "unknown form"),
    "announced bytearray": (b"\x96" + (1 << 50).to_bytes(8, "little"), "announces"),
    "announced bytes": (b"\x8e" + (1 << 50).to_bytes(8, "little"), "cannot be read"),
    "announced frame": (b"\x95" + (1 << 50).to_bytes(8, "little"), "cannot be read"),
    "memo": (b"Nr\xff\xff\xff\x7f0]", ""),
    "nested lists": (b"]" * 200000 + b"a" * 199999, "nested too deeply"),
    "nested tuples": (b")" + b"\x85" * 200000, "nested too deeply"),
    "nested keys": (b"}" + b")" + b"2\x86" * 60 + b"Ns", "keys that are not plain"),
    "itself": (b"]q\x00h\x00a", "holds itself"),
    "persistent": (b"Pid\n", "instructions"),
    "persistent, binary": (plain("id") + b"Q", "instructions"),
    "extension": (b"\x82\x01", "instructions"),
    "instance": (b"(iposix\nsystem\n", "instructions"),
    "object": (b"(" + name("numpy.dtype") + plain("f8") + b"o", "instructions"),
    "new": (name("numpy.dtype") + b")\x81", "instructions"),
    "outside buffer": (b"\x97", "instructions"),
    "attributes": (plain({}) + plain({"a": 1}) + b"b", "sets attributes of a dict"),
    "attributes of a path": (call("pathlib.PosixPath", "a") + plain({"a": 1}) + b"b", "sets attributes"),
    "attributes of a function": (name("builtins.set") + plain({"__code__": 1}) + b"b", "sets attributes"),
    "call of text": (plain("x") + b")R", "no function"),
    "append to text": (plain("x") + b"Na", "adds to a str"),
    "system": (call("os.system", "touch ran"), "asks for os.system"),
    "posix": (call("posix.system", "touch ran"), "asks for posix.system"),
    "eval": (call("builtins.eval", "open('ran', 'w')"), "asks for builtins.eval"),
    "getattr": (call("builtins.getattr", "x", "join"), "asks for builtins.getattr"),
    "dotted": (text("numpy") + text("f2py.os.system") + b"\x93", "asks for numpy.f2py.os.system"),
    "path that touches": (name("pathlib.Path.touch"), "asks for pathlib.Path.touch"),
    "path of numbers": (call("pathlib.PosixPath", 1), "plain value of something else"),
    "empty": (b"", "cannot be read"),
    "unknown instruction": (b"\xff", "cannot be read"),
    "control characters": (name("a\x1b[2J.b"), r"asks for a\?\[2J\.b"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_one_sentence(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body, says = HOSTILE[case]
    path = npy(tmp_path / "a.npy", b"\x80\x05" + body + b".")
    if case == "memo":  # a place in the memo beyond all memory is no fault of a plain value
        assert read(path) == []
    else:
        refused(path, says)
    with pytest.raises(InputError):
        cellvit_layout.read_dict(path)
    with pytest.raises(InputError):
        cellpose.read(path, None)
    assert not (tmp_path / "ran").exists()


def test_one_long_value_is_not_multiplied(tmp_path):
    """A text of a megabyte, called upon ten thousand times, would be ten gigabytes."""
    once = name("_codecs.encode") + b"h\x00\x85Ra"
    content = b"\x80\x04" + text("x" * (1 << 20)) + b"q\x000]" + once * 10000 + b"."
    refused(npy(tmp_path / "a.npy", content), "more values than it has bytes")


def crashing() -> bytes:
    """The shortest file that ended the interpreter: eight letters taken for the address of an object."""
    return b"\x80\x04" + array(POINTER, (), b"A" * 8) + b"."


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("where", ["made", "stored"])
def test_score_says_it_in_one_sentence(where, tmp_path):
    if where == "made":
        np.save(tmp_path / "true.npy", MAP)
        sides = tmp_path / "true.npy", npy(tmp_path / "pred.npy", crashing())
    else:
        sides = shared("faults/pickle-memory") / "true", shared("faults/pickle-memory") / "pred"
    done = run("-m", "benchmark", "score", "--true", str(sides[0]), "--pred", str(sides[1]), "--mpp", ".25")
    assert done.returncode == 2, done
    assert "pickled content that is not read" in done.stderr and done.stderr.strip().count("\n") == 0


def test_no_stand_in_is_anothers():
    assert {v.__module__ for v in stand_ins.ADMITTED.values()} == {stand_ins.__name__}


def fuzz(folder: Path, seed: int, n: int) -> None:
    """Read `n` files, each a genuine one with a few bytes changed; to be run in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    rng = random.Random(seed)
    saved = {case: value for case, (value, _) in GENUINE.items()}
    sources = [pickle.dumps(wrapped({k: v}), p) for k, v in saved.items() for p in (2, 3, 5)] * 2 + [crashing()] * 9
    # that one is read once its key is a value, and its parts repeat too often to be printed
    sources += [b"\x80\x04" + body + b"." for case, (body, _) in HOSTILE.items() if case != "nested keys"]
    sources = [source for source in sources if len(source) < 1000]
    for _ in range(n):
        content = bytearray(rng.choice(sources))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at, length = rng.randrange(len(content)), rng.choice((1, 1, 1, 0, 4))
            near = bytes([(content[at] + rng.choice((-1, 1))) % 256])
            instruction = bytes([rng.choice(b"Rb\x81\x93t.(a0h\xff\x00")])
            content[at : at + length] = rng.choice((near, near, rng.randbytes(1), instruction, rng.choice(sources)))
        try:
            repr(read(npy(folder / "a.npy", bytes(content))))
        except InputError:
            pass


def test_mutations_either_read_or_are_refused(tmp_path):
    code = (
        f"from pathlib import Path; from tests.runtime.test_pickles import fuzz; fuzz(Path({str(tmp_path)!r}), 0, 1500)"
    )
    done = run("-c", code)
    assert done.returncode == 0, (done.returncode, done.stderr[-800:])


def checkpoint(path: Path, body: bytes) -> Path:
    """A file of torch.save whose pickle is replaced."""
    stream = io.BytesIO()
    torch.save({}, stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            target.writestr(member, body if member.endswith("data.pkl") else source.read(member))
    return path


def torch_array(flags: int, shape=(2,)) -> bytes:
    """{"desc": {"x": an array}}, its bytes written as protocol 2 does."""
    letters = name("_codecs.encode") + text("A" * 16) + text("latin1") + b"\x86R"
    whole = array(dtype("f8", None), shape, b"")
    whole = whole.replace(plain((0,)) + plain(b"b"), b"K\x00\x85" + text("b")).replace(plain(b""), letters)
    state = b"(K\x03" + text("<") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K" + bytes([flags]) + b"tb"
    start, made, end = whole.partition(text("f8") + b"\x89\x88\x87R")
    return b"\x80\x02}" + text("desc") + b"}" + text("x") + start + made + state + end + b"ss."


def test_weights_with_hostile_arrays(tmp_path):
    """A float whose dtype says that it is counted like an object: numpy believes it."""
    found = weights_file.read(checkpoint(tmp_path / "a.pth", torch_array(63)))
    assert found.state["x"].tolist() == np.frombuffer(b"A" * 16).tolist()
    path = checkpoint(tmp_path / "b.pth", torch_array(0, (7,)))
    with pytest.raises(InputError, match=r"b\.pth: .*does not load .*shape \(7,\)"):
        weights_file.read(path)


def test_encoders_with_harmless_objects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = {"a": torch.ones(2)}
    content = {"model": state, "epoch": np.int64(3), "best": np.float32(0.5), "to": Path("/x"), "mean": np.zeros(3)}
    torch.save(content, tmp_path / "a.pth")
    assert torch.equal(weights_file.read_file(tmp_path / "a.pth")["a"], state["a"])
    checkpoint(tmp_path / "b.pth", b"\x80\x02" + name("os.system") + text("touch ran") + b"\x85R.")
    with pytest.raises(InputError, match=r"holds a Python object of the kind 'os\.system'"):
        weights_file.read_file(tmp_path / "b.pth")
    assert not (tmp_path / "ran").exists()
