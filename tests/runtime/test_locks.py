"""Folders in which a lock does not stop another process are refused."""

import pytest

from benchmark.runtime import locks
from benchmark.runtime.errors import InputError


def test_a_folder_with_locks(tmp_path):
    locks.check_locks(tmp_path / "results")
    assert not list((tmp_path / "results").iterdir())


def test_locks_that_are_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(InputError, match=r"refuses to lock files \(FileSystem"):
        locks.check_locks(tmp_path)


def test_locks_without_effect(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_TRY", "")  # the other process locks the file as well
    with pytest.raises(InputError, match="was locked by another too"):
        locks.check_locks(tmp_path)


def test_locks_that_could_not_be_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_TRY", "raise SystemExit('no filelock here')")
    with pytest.raises(InputError, match=r"could not be tried .no filelock here"):
        locks.check_locks(tmp_path)


def test_of_two_mounts_at_one_path_the_last_one_counts(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"auto {tmp_path.resolve()} autofs rw 0 0\nserver:/x {tmp_path.resolve()} nfs rw,nolock 0 0\n")
    monkeypatch.setattr(locks, "MOUNTS", mounts)
    with pytest.raises(InputError, match="mounted with nolock"):
        locks.check_locks(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "nolock"),
        ("lustre", "rw,localflock", "localflock"),
        ("lustre", "rw,flock", ""),
        ("ext4", "rw,nolock", ""),
        ("cifs", "rw,nobrl", "nobrl"),
        ("cifs", "rw", ""),
        ("fuse.sshfs", "rw", "fuse.sshfs"),
    ],
)
def test_locks_that_hold_on_one_machine_alone(tmp_path, monkeypatch, kind, options, named):
    results = tmp_path / "two words" / "results"
    mounts = tmp_path / "mounts"
    mount = str(tmp_path.resolve() / "two words").replace(" ", "\\040")
    mounts.write_text(f"rootfs / ext4 rw 0 0\nserver:/export {mount} {kind} {options} 0 0\n")
    monkeypatch.setattr(locks, "MOUNTS", mounts)
    if not named:
        locks.check_locks(results)
        return
    with pytest.raises(InputError, match=f"one machine alone there .mounted with {named}"):
        locks.check_locks(results)
