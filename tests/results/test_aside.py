"""What lies in a run's folder is moved aside whole, whatever kills the process meanwhile."""

import shutil

import pytest

from benchmark.results import aside
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import write_json
from tests.support.tiny_data import file_bytes

NAMES = ("checkpoint.pt", "images.parquet", "log.jsonl", "maps-0.npz", "weights.safetensors")


def filled(results, key="00ff"):
    folder = RunFolder(results / "data" / "m@small" / "fold1-seed0")
    folder.path.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder.path / name).write_text(f"{name} of {key}")
    write_json(folder.config, {"key": key})
    write_json(folder.metrics, {"key": key})
    return folder


def test_all_files_go_to_a_folder_of_the_key(tmp_path):
    folder = filled(tmp_path)
    before = file_bytes(folder.path)
    with folder.lock():
        target = aside.move(folder)
        assert [path.name for path in folder.path.iterdir()] == [".lock"], "which this process holds"
    assert target == tmp_path / "_stale/data/m@small/fold1-seed0-00ff"
    assert file_bytes(target) == before
    assert aside.move(filled(tmp_path)).name == "fold1-seed0-00ff-2", "an earlier one is kept"
    assert aside.move(filled(tmp_path, key="../up")).name == "fold1-seed0-unknown"
    folder.path.joinpath("failed.txt").write_text("why")
    assert file_bytes(aside.move(folder)) == {"failed.txt": b"why"}


@pytest.mark.parametrize("moved", range(len(NAMES) + 3))
def test_a_kill_between_two_files_loses_nothing(tmp_path, monkeypatch, moved):
    folder = filled(tmp_path)
    before, real, calls = file_bytes(folder.path), shutil.move, []

    def killed(source, target):
        if len(calls) == moved:
            raise KeyboardInterrupt
        calls.append(source)
        return real(source, target)

    monkeypatch.setattr(shutil, "move", killed)
    if moved < len(before):
        with pytest.raises(KeyboardInterrupt):
            aside.move(folder)
        assert folder.leaving.exists() and not folder.complete, "half of a result is none"
        assert folder.metrics.exists(), "last of all, what makes a folder a result"
        monkeypatch.setattr(shutil, "move", real)
        target = aside.finish(folder)
    else:
        target = aside.move(folder)
    assert file_bytes(target) == before and file_bytes(folder.path) == {}
    assert [path.name for path in target.parent.iterdir()] == ["fold1-seed0-00ff"]


@pytest.mark.parametrize("name", ["", "../../elsewhere", "fold2-seed0-00ff"])
def test_a_damaged_note_moves_nothing(tmp_path, name):
    folder = filled(tmp_path)
    before = file_bytes(folder.path)
    folder.leaving.write_text(name)
    with pytest.raises(InputError, match=r"moving-aside\.txt is damaged"):
        aside.finish(folder)
    folder.leaving.unlink()
    assert file_bytes(folder.path) == before
