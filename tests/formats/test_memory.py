"""Small files that claim much memory are refused by their headers."""

import gzip
import json
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.files import label_files, raster
from benchmark.data.files.polygons import paint
from benchmark.evaluation import foreign
from benchmark.formats.collection import collection
from benchmark.formats.labelled import Labelled
from benchmark.formats.stacks import Stack
from benchmark.formats.type_names import TypeNames
from benchmark.runtime import memory
from benchmark.runtime.errors import InputError
from tests.support.foreign_files import feature, labels, score

SIDE = 9_000  # 81 million pixels
MOST = 40_000_000  # bytes; as int64 the map takes 648 million
MOST_MAT = 300_000_000  # scipy unpacks 131072 bytes at once, up to 135 million of it, to see a header
ZEROS = bytes(1 << 20)


def zeros(size: int):
    return (ZEROS[: min(len(ZEROS), size - k)] for k in range(0, size, len(ZEROS)))


def header(stream, shape: tuple[int, ...], dtype="|u1") -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})


def write_npz(path, arrays: dict[str, tuple[int, ...]], dtype="|u1") -> None:
    """An npz of zeros, some thousand times smaller than they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, shape in arrays.items():
            with archive.open(f"{key}.npy", "w") as stream:
                header(stream, shape, dtype)
                for block in zeros(int(np.prod(shape)) * np.dtype(dtype).itemsize):
                    stream.write(block)


def write_npy(path, shape: tuple[int, ...] = (SIDE, SIDE)) -> None:
    """A file with a hole: it takes no space on the disk."""
    with open(path, "wb") as stream:
        header(stream, shape)
        stream.truncate(stream.tell() + int(np.prod(shape)))


def write_tiff(path, side: int = SIDE) -> None:
    """Under 200 bytes: one strip of which nothing is stored."""
    tags = [(256, 4, side), (257, 4, side), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1)]
    tags += [(278, 4, side), (279, 4, 0)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))


def write_mat(path, side: int = SIDE) -> None:
    """A compressed uint8 array inst_map of zeros."""
    name = struct.pack("<II8s", 1, 8, b"inst_map")
    flags, sides = struct.pack("<IIII", 6, 8, 9, 0), struct.pack("<IIii", 5, 8, side, side)
    size = side * side
    packer = zlib.compressobj()
    body = packer.compress(struct.pack("<II", 14, len(flags + sides + name) + 8 + size + -size % 8))
    body += packer.compress(flags + sides + name + struct.pack("<II", 2, size))
    body += b"".join(packer.compress(block) for block in zeros(size + -size % 8)) + packer.flush()
    path.write_bytes(
        b"MATLAB 5.0".ljust(124) + struct.pack("<H2s", 0x0100, b"IM") + struct.pack("<II", 15, len(body)) + body
    )


WRITERS = {
    "a.npz": lambda path: write_npz(path, {"instances": (SIDE, SIDE)}),
    "stack.npz": lambda path: write_npz(path, {"instances": (1, SIDE, SIDE)}),
    "a.npy": write_npy,
    "stack.npy": lambda path: write_npy(path, (1, SIDE, SIDE)),
    "a.tif": write_tiff,
    "a.mat": write_mat,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("side", ["pred", "true"])
def test_a_map_of_another_shape_is_refused_by_its_header(tmp_path, capsys, name, side):
    WRITERS[name](tmp_path / name)
    np.savez(tmp_path / "small.npz", instances=labels()[0][None])
    files = [tmp_path / "small.npz", tmp_path / name]
    true, pred = files if side == "pred" else files[::-1]
    tracemalloc.start()
    try:
        assert score(tmp_path, true, pred, "--mpp", 0.25) == 2
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    error = capsys.readouterr().err
    assert peak < (MOST_MAT if name == "a.mat" else MOST) and name in error and error.count("error:") == 1
    assert "expected a label map of the truth's shape" in error or "ends before its pixels" in error
    assert f"({SIDE}, {SIDE})" in error or name == "a.tif"


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.mat"])
def test_a_label_file_of_a_data_set_is_refused_by_its_header(tmp_path, name):
    WRITERS[name](tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"expected a map of the image's shape|ends before its pixels"):
            label_files.labels(tmp_path / name, (40, 50), ("a",))
        assert tracemalloc.get_traced_memory()[1] < (MOST_MAT if name == "a.mat" else MOST)
    finally:
        tracemalloc.stop()


def test_a_tiff_without_pixels_is_called_truncated(tmp_path):
    write_tiff(tmp_path / "a.tif", 40_000)
    assert (tmp_path / "a.tif").stat().st_size < 200
    for read in (raster.shape, raster.array):
        with pytest.raises(InputError, match="ends before its pixels"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"instances": (2, 4, 5), "types": (SIDE * SIDE,), "offsets": (3,)}, "types and offsets disagree"),
        ({"instances": (2, 4, 5), "types": (3,), "offsets": (SIDE * SIDE,)}, "types and offsets disagree"),
        ({"instances": (2, 4, 5), "mpp": (SIDE, SIDE)}, "expected one number for all images"),
        ({"instances": (4, 5), "types": (SIDE, SIDE)}, "expected a type map of the instance map's shape"),
        ({"coord": (SIDE * 100, 2, 64)}, "expected coord .* of an image"),
        ({"coord": (2, 2, SIDE * SIDE // 4)}, "of at most 4096 rays"),
        ({"coord": (2, 2, 32), "prob": (SIDE * SIDE,)}, "expected prob with one entry for each of 2 nuclei"),
    ],
)
def test_arrays_beside_the_map_are_compared_with_it_before_they_are_read(tmp_path, arrays, sentence):
    write_npz(tmp_path / "a.npz", arrays)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=sentence):
            collection(tmp_path / "a.npz", TypeNames()).images[0].read((40, 50))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def test_a_stack_in_fortran_order_is_not_read_before_it_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(2 * 300 * 300, dtype=np.uint32).reshape(2, 300, 300)))
    tracemalloc.start()
    try:
        stack = Stack(tmp_path / "a.npy")
        assert stack.shape == (300, 300) and tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
    assert np.array_equal(stack.read(1)[0].ravel(), np.arange(90_000, 180_000))


def test_a_large_outline_takes_little_more_than_its_map():
    canvas = np.zeros((3_000, 3_000), np.uint8)
    ring = np.array([[0.0, 0], [3_000, 0], [3_000, 3_000], [0, 3_000]])
    tracemalloc.start()
    try:
        assert paint(canvas, [ring], 1, "corners") == canvas.size and canvas.all()
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_memory_that_does_not_suffice_is_one_sentence(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "a.npy", labels()[0])

    def fail(*_):
        raise MemoryError("Unable to allocate 24.0 GiB")

    monkeypatch.setattr("benchmark.formats.collection.from_maps", fail)
    assert score(tmp_path, tmp_path / "a.npy", tmp_path / "a.npy", "--mpp", 0.25) == 2
    assert "a.npy cannot be read: it is larger than the memory" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(foreign, "score_image", fail)
    assert score(tmp_path, tmp_path / "a.npy", tmp_path / "a.npy", "--mpp", 0.25) == 2
    assert "error: the memory does not suffice (Unable to allocate 24.0 GiB)" in capsys.readouterr().err


def test_the_shape_of_the_header_is_that_of_what_is_read(tmp_path):
    instances, types = labels()
    small = Image.fromarray(np.minimum(instances, 200).astype(np.uint8))
    small.save(tmp_path / "grey.png")
    small.convert("P").save(tmp_path / "palette.png")
    np.save(tmp_path / "hw1.npy", instances[..., None])
    np.save(tmp_path / "hw2.npy", np.stack([instances, types], -1))
    np.savez(tmp_path / "maps.npz", instances=instances, types=types)
    for path in tmp_path.iterdir():
        (image,) = collection(path, TypeNames()).images
        found = image.read(None)
        assert isinstance(found, Labelled) and image.shape() == found.instances.shape, path


def test_what_the_user_states_is_compared_with_the_header(tmp_path, capsys):
    """Beside a truth of outlines a prediction of any size was read."""
    write_npz(tmp_path / "a.npz", {"instances": (SIDE, SIDE)})
    rings = [[[1, 1], [9, 1], [9, 9], [1, 1]]]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature(rings, None)]}))
    words = ["--mpp", 0.25, "--shape", 40, 50]
    tracemalloc.start()
    try:
        assert score(tmp_path, tmp_path / "a.geojson", tmp_path / "a.npz", *words) == 2
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert f"expected the shape (40, 50) of --shape, found ({SIDE}, {SIDE})" in capsys.readouterr().err


@pytest.mark.parametrize(("pred", "shape"), [("a.geojson", ("--shape", 20_000, 20_000)), ("a.npz", ())])
def test_more_memory_than_there_is_is_refused_before_it_is_taken(tmp_path, capsys, monkeypatch, pred, shape):
    """An outline of 200 bytes in an image of 20,000 x 20,000 pixels took all memory."""
    write_npz(tmp_path / "a.npz", {"instances": (20_000, 20_000)})
    rings = [[[1, 1], [9, 1], [9, 9], [1, 1]]]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature(rings, None)]}))
    monkeypatch.setattr("benchmark.runtime.memory.available", lambda: 4_000_000_000)
    tracemalloc.start()
    try:
        assert score(tmp_path, tmp_path / "a.geojson", tmp_path / pred, "--mpp", 0.25, *shape) == 2
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert "scoring 20000 x 20000 pixels takes about 9.6 GB of memory, 4.0 GB are available" in capsys.readouterr().err


def test_memory_is_known_where_the_system_says_it():
    free = memory.available()
    assert free is None or 0 < free < 2**50
    memory.check(1, "a pixel")


@pytest.mark.parametrize("tag", [273, 279, 278])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_without_some_of_its_pixels_is_refused(tmp_path, compression, tag):
    """tifffile takes a strip without bytes, and one that is not there, for zeros."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, labels()[0].astype(np.uint16), compression=compression)
    with tifffile.TiffFile(path) as file:
        entry = file.pages[0].tags[tag].offset
    content = bytearray(path.read_bytes())
    content[entry + 8 : entry + 12] = (8 if tag == 278 else 0).to_bytes(4, "little")  # rows per strip: five strips
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif cannot be read"):
        raster.array(path)


def test_coordinates_beyond_all_floats_are_refused(tmp_path, capsys):
    rings = [[[1, 1], [10**400, 1], [9, 9], [1, 1]]]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature(rings, None)]}))
    np.save(tmp_path / "a.npy", labels()[0])
    assert score(tmp_path, tmp_path / "a.npy", tmp_path / "a.geojson", "--mpp", 0.25) == 2
    assert "expected an outline as a list of x, y pairs, found int too large" in capsys.readouterr().err


@pytest.mark.parametrize(("unit", "name"), [(b"{},", "a.geojson"), (b"[],", "a.json")])
@pytest.mark.parametrize("packer", ["gz", "zip"])
def test_outlines_packed_more_than_outlines_can_be_are_refused(tmp_path, unit, name, packer):
    content = b'{"features":[' + unit * 3_000_000 + b"0]}"
    path = tmp_path / f"{name}.{packer}"
    if packer == "gz":
        path.write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="expected packed outlines, found text that takes more than 100 times"):
            collection(path, TypeNames()).images[0].read((40, 50))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("arrays", "dtype", "sentence"),
    [
        ({"instances": (1, 4, 5), "names": (1,)}, "<U9000000", "words of at most 4096 characters"),
        ({"instances": (1, 4, 5), "names": (1,)}, "|S90000000", "words of at most 4096 characters"),
        ({"instances": (2, 4, 5), "types": (2, 4, 5), "offsets": (3,)}, "|S9000", "found dtype"),
        ({"instances": (200, 300)}, "|S9000", "expected integer ids, found dtype"),
        ({"coord": (9_216, 2, 1_024)}, "<f4", "expected coord of nuclei of a few pixels at least"),
        ({"coord": (2, 2, 32)}, "|S9000", "expected coord of numbers, found dtype"),
    ],
)
def test_entries_of_great_width_and_too_many_rays_are_refused_by_the_header(tmp_path, arrays, dtype, sentence):
    wide = {"names": dtype} if "names" in arrays else dict.fromkeys(arrays, dtype)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, shape in arrays.items():
            with archive.open(f"{key}.npy", "w") as stream:
                header(stream, shape, wide.get(key, "|u1"))
                for block in zeros(int(np.prod(shape)) * np.dtype(wide.get(key, "|u1")).itemsize):
                    stream.write(block)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=sentence):
            collection(tmp_path / "a.npz", TypeNames()).images[0].read((96, 96))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
