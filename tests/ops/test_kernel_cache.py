"""The folder of compiled kernels: built once, whole or not at all, whatever the home folder allows."""

import os
import subprocess
import sys

import pytest

from benchmark.ops import kernel_cache
from benchmark.ops.kernel_cache import cached


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def never():
    raise AssertionError("built again")


def test_built_once_per_key(chosen):
    first = cached("op.cubin", "a", lambda: b"one")
    assert first.parent == chosen and first.suffix == ".cubin" and first.read_bytes() == b"one"
    assert cached("op.cubin", "a", never) == first
    assert cached("op.cubin", "b", lambda: b"two") != first
    assert [p for p in chosen.iterdir() if p.name.startswith(".")] == []


def test_failed_build_leaves_nothing(chosen):
    with pytest.raises(AssertionError):
        cached("op.cubin", "a", never)
    assert not chosen.exists() or not list(chosen.iterdir())


def test_home_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCHMARK_KERNEL_CACHE", raising=False)
    blocked = tmp_path / "home"
    blocked.write_text("a file where the folder should be: also fails for root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    path = cached("op.so", "a", lambda: b"code")
    assert path.is_relative_to(tmp_path / "temporary") and path.read_bytes() == b"code"
    assert cached("op.so", "a", never) == path


def test_home_that_may_not_be_entered(tmp_path, monkeypatch):
    """As in a container that runs as a user with another's HOME; root would enter it, so the refusal is played."""
    monkeypatch.delenv("BENCHMARK_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))

    def closed(call):
        def refuse(path, *given, **named):
            if str(path).startswith(str(tmp_path / "home")):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *given, **named)

        return refuse

    for name in ("stat", "mkdir", "listdir"):
        monkeypatch.setattr(os, name, closed(getattr(os, name)))
    path = cached("op.so", "a", lambda: b"code")
    assert path.is_relative_to(tmp_path / "temporary") and cached("op.so", "a", never) == path


def test_folder_that_cannot_be_used_is_passed_by(tmp_path, monkeypatch):
    """A home mounted without permission to execute takes the file, but does not load it."""
    monkeypatch.delenv("BENCHMARK_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))

    def load(path):
        if path.is_relative_to(tmp_path / "home"):
            raise OSError("failed to map segment from shared object")
        return path.read_bytes()

    assert cached("op.so", "a", lambda: b"code", load) == b"code"
    assert cached("op.so", "a", never, load) == b"code"


def test_damaged_file_is_built_again(chosen):
    path = cached("op.cubin", "a", lambda: b"code")
    path.write_bytes(b"co")
    assert cached("op.cubin", "a", lambda: b"code") == path and path.read_bytes() == b"code"


def test_folder_open_to_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCHMARK_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    folder = tmp_path / "nuclei-benchmark" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    path = cached("op.so", "a", lambda: b"code")
    assert not path.is_relative_to(folder)


def plant(folder, key):
    """A file as another user would plant it: its name fits its content. Returns its path."""
    stem = f"op-{kernel_cache._digest(key.encode())}"
    path = folder / f"{stem}-{kernel_cache._digest(b'planted')}.so"
    path.write_bytes(b"planted")
    path.chmod(0o644)
    return path


@pytest.fixture
def of_another_user(monkeypatch):
    """Paths named here belong to user 12345 as far as stat says."""
    others = set()
    call = os.stat

    def stat(path, *args, **kwargs):
        state = call(path, *args, **kwargs)
        return os.stat_result([*state[:4], 12345, *state[5:]]) if str(path) in others else state

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "lstat", lambda path, **kwargs: stat(path, follow_symlinks=False, **kwargs))
    return others


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o707])
def test_chosen_folder_open_to_others_is_refused(chosen, mode):
    chosen.mkdir()
    plant(chosen, "a")
    chosen.chmod(mode)
    with pytest.raises(OSError, match=f"others may write there, its mode is {mode:o}.*BENCHMARK_KERNEL_CACHE"):
        cached("op.so", "a", lambda: b"code")
    chosen.chmod(0o755)
    assert cached("op.so", "a", never).read_bytes() == b"planted"  # it was only the mode


def test_chosen_folder_of_another_user_is_refused(chosen, of_another_user):
    chosen.mkdir()
    plant(chosen, "a")
    of_another_user.add(str(chosen))
    with pytest.raises(OSError, match="belongs to another user, number 12345"):
        cached("op.so", "a", lambda: b"code")


def test_planted_file_of_another_user_is_not_loaded(chosen, of_another_user):
    chosen.mkdir(mode=0o755)
    of_another_user.add(str(plant(chosen, "a")))
    assert cached("op.so", "a", lambda: b"code").read_bytes() == b"code"


def test_file_that_others_may_write_is_not_loaded(chosen):
    chosen.mkdir(mode=0o755)
    plant(chosen, "a").chmod(0o666)
    assert cached("op.so", "a", lambda: b"code").read_bytes() == b"code"


def test_link_to_a_file_is_not_loaded(chosen, tmp_path):
    chosen.mkdir(mode=0o755)
    path = plant(chosen, "a")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cached("op.so", "a", lambda: b"code").read_bytes() == b"code"


def test_folder_that_could_be_exchanged_is_refused(tmp_path, monkeypatch):
    above = tmp_path / "shared"
    above.mkdir()
    above.chmod(0o777)
    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(above / "kernels"))
    with pytest.raises(OSError, match=r"everybody may write in .*shared above it"):
        cached("op.so", "a", lambda: b"code")
    above.chmod(0o1777)  # sticky: only the owner of a folder may rename it
    assert cached("op.so", "a", lambda: b"code").read_bytes() == b"code"


def test_chosen_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(tmp_path / "file" / "kernels"))
    with pytest.raises(OSError, match="BENCHMARK_KERNEL_CACHE"):
        cached("op.so", "a", lambda: b"code")


def test_eight_processes_at_once(chosen):
    code = (
        "import time; from kernel_cache import cached\n"  # without benchmark.ops and torch
        "def build():\n    time.sleep(0.3); return b'x' * 1_000_000\n"
        "path = cached('op.cubin', 'k', build); assert path.read_bytes() == b'x' * 1_000_000; print(path)"
    )
    folder = os.path.dirname(kernel_cache.__file__)
    environment = os.environ | {"BENCHMARK_KERNEL_CACHE": str(chosen), "PYTHONPATH": folder}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(8)
    ]
    paths = {process.communicate(timeout=60)[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(paths) == 1 and len(list(chosen.iterdir())) == 1
