"""Files that are written whole or not at all."""

import errno
import os

import pytest

from benchmark.runtime.files import atomic


def test_a_file_that_cannot_be_opened_or_renamed_is_named_itself(tmp_path, monkeypatch):
    """The sentence named the temporary file, of which the user knows nothing."""
    target = tmp_path / "a.json"
    target.mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError) as raised, atomic(target) as handle:
        handle.write(b"x")
    assert (raised.value.filename, raised.value.filename2) == (str(target), None)

    def full(path, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError) as raised, atomic(tmp_path / "b.json"):
        pass
    assert raised.value.filename == str(tmp_path / "b.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
