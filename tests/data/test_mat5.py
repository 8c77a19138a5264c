"""The reader of MATLAB's Level 5 files, against scipy's, and on damaged files that crash scipy's."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io

from benchmark.data.files import mat5, matlab
from benchmark.runtime.errors import InputError

DTYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "b1")


def saved(compressed: bool = False, **arrays) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, arrays, do_compression=compressed)
    return out.getvalue()


@pytest.mark.parametrize("compressed", (False, True))
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_those_that_scipy_reads(dtype, compressed):
    rng = np.random.default_rng(0)
    for shape in ((3, 4), (1, 1), (0, 3), (2, 3, 4), (5, 1)):
        array = rng.integers(0, 2 if dtype == "b1" else 100, shape).astype(dtype)
        content = saved(compressed, a=array, a_longer_name_of_an_array=array)
        expected = scipy.io.loadmat(io.BytesIO(content))
        got = mat5.arrays(content)
        assert set(got) == {"a", "a_longer_name_of_an_array"}
        for name, values in got.items():
            assert values.dtype == expected[name].dtype and np.array_equal(values, expected[name])


def test_what_is_no_array_of_real_numbers_is_named_and_not_read():
    got = mat5.arrays(saved(t="text", c=np.array([1, "x"], object), s={"q": 1}, z=np.array([[1j]]), a=np.eye(2)))
    assert [name for name, values in got.items() if values is None] == ["t", "c", "s", "z"]
    assert np.array_equal(got["a"], np.eye(2))


def test_every_flipped_bit_and_every_cut_is_a_value_or_one_sentence(tmp_path):
    path = tmp_path / "a.mat"
    content = saved(inst_map=np.arange(12, dtype=np.int32).reshape(3, 4), inst_type=np.ones((11, 1)))
    flipped = (
        content[:k] + bytes([content[k] ^ 1 << bit]) + content[k + 1 :] for k in range(len(content)) for bit in range(8)
    )
    cut = (content[:size] for size in range(len(content)))
    read = 0
    for damaged in (*flipped, *cut):
        path.write_bytes(damaged)
        try:
            matlab.read(path)
            read += 1  # a bit of a value, or a cut between two arrays
        except InputError as error:
            assert "a.mat" in str(error) and "\n" not in str(error)
    assert 0 < read < 8 * len(content)


def test_a_version_4_file_is_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"inst_map": np.array([[0.0, 1.0], [2.0, 2.0]])}, format="4")
    assert matlab.read(tmp_path / "a.mat").instances.tolist() == [[0, 1], [2, 2]]


def test_a_packed_array_of_more_than_a_gigabyte_is_not_unpacked():
    body = zlib.compress(struct.pack("<II", 14, (1 << 31) - 8) + bytes(64 << 20))
    content = b"MATLAB 5.0".ljust(124) + struct.pack("<H2s", 0x0100, b"IM") + struct.pack("<II", 15, len(body)) + body
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="larger than a gigabyte"):
            mat5.arrays(content)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
