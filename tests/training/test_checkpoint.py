"""Checkpoints that cannot be written or read."""

import contextlib
import os
import resource
import signal

import pytest
import torch

from benchmark.runtime.errors import InputError
from benchmark.training import checkpoint


@contextlib.contextmanager
def small_files():
    """No file may grow beyond 64 kB: writing fails midway, as on a full disk. Nor may a log of the tests: no fixture,
    whose end comes after pytest has written there."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_that_does_not_fit_is_an_oserror_that_names_it(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"place": {}})
    with pytest.raises(OSError) as caught, small_files():
        checkpoint.save(path, {"place": {}, "w": torch.zeros(1 << 16)})
    assert caught.value.filename == str(path)
    assert checkpoint.load(path) == {"place": {}} and os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"place": {}, "method": {"w": torch.arange(1 << 12)}})
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-999], "flipped": content, "empty": b"", "text": b"hello"}.get(damage, b""))
    if damage == "foreign":
        torch.save([1, 2], path)
    with pytest.raises(InputError, match="expected a training checkpoint"):
        checkpoint.load(path)
