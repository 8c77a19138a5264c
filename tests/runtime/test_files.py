"""Files that are written whole or not at all."""

import errno
import os

import pytest

from benchmark.runtime.files import atomic, atomic_folder, sweep, temporary_name


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


def test_processes_of_one_number_on_two_machines_do_not_meet(tmp_path):
    """Two that share a file system may have the same number: the temporary file of one was that of the other."""
    with atomic(tmp_path / "a", "w") as one, atomic(tmp_path / "a", "w") as other:
        one.write("first")
        other.write("second")
        assert len([*tmp_path.iterdir()]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "first"
    with atomic_folder(tmp_path / "b") as one, atomic_folder(tmp_path / "b") as other:
        assert one != other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_a_killed_process_left_half_written_is_swept(tmp_path):
    for name in ("a.bin", "b.bin"):
        (tmp_path / temporary_name(name)).write_bytes(b"half")
    (tmp_path / "a.bin").touch()
    sweep(tmp_path, "a")
    assert sorted(path.name[:6] for path in tmp_path.iterdir()) == [".b.bin", "a.bin"]
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
