"""Parquet files whose footer says another number of rows than they hold: refused, never short of values."""

import numpy as np
import pytest

from benchmark.data.files.parquet_images import ImageFile, Rule
from benchmark.data.files.tally import Tally
from benchmark.runtime.errors import InputError
from tests.support import parquet_files, tiny_data


def test_every_flipped_bit_of_a_footer_is_refused_or_all_rows_are_read(tmp_path):
    """One bit of a page's or a group's number of values gave a traceback (list index out of range)."""
    images, masks, _ = tiny_data.fold_arrays(3, side=16)
    path = parquet_files.as_maps(tmp_path / "a.parquet", images, masks[..., :5], ["Breast"] * 3, [1, 2, 3])
    content, rows = path.read_bytes(), np.arange(3)
    size = int.from_bytes(content[-8:-4], "little")
    printed = set()
    for bit in range(0, 8 * size, 5):
        at = len(content) - 8 - size + bit // 8
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :])
        try:
            file = ImageFile(path)
            if "id" in file.columns:  # the bit may be of its name
                assert len(file.facts("id")) == len(file), bit
            if len(file) == 3:
                assert sum(1 for _ in file.rows(rows, Rule(), Tally("a"))) == 3, bit
        except InputError as error:
            printed.add(str(error))
    assert any("rows, of which its column id holds" in sentence for sentence in printed)
    assert any("rows, its row groups have" in sentence for sentence in printed)
    assert all(str(path) in sentence and sentence.endswith(".") for sentence in printed)


def test_a_group_that_ends_early_is_refused(tmp_path, monkeypatch):
    images, masks, _ = tiny_data.fold_arrays(3, side=16)
    path = parquet_files.as_maps(tmp_path / "a.parquet", images, masks[..., :5], ["Breast"] * 3, [1, 2, 3])
    file = ImageFile(path)
    monkeypatch.setattr(type(file._file), "iter_batches", lambda *args, **words: iter(()))
    with pytest.raises(InputError, match=r"a\.parquet cannot be read \(it ends before its row 1\)"):
        list(file.rows(np.arange(3), Rule(), Tally("a")))
