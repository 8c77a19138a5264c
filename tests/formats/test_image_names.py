"""Names of images are compared alike wherever they stand: in a folder, in an npz, with a path."""

import re

import numpy as np
import pytest

from benchmark.data.files.names import compared
from tests.support.foreign_files import labels, score


def npz(path, names):
    instances, types = labels()
    np.savez(path, instances=np.stack([instances, instances[::-1]]), types=np.stack([types, types[::-1]]), names=names)
    return path


@pytest.mark.parametrize(
    "names",
    [["b.png", "a.png"], ["images/b.png", "images/a.tif"], ["images\\b.png", "images\\a.png"], ["B", "a.ome.tif"]],
)
def test_names_with_endings_and_folders_meet_files_and_plain_names(tmp_path, capsys, names):
    (tmp_path / "t").mkdir()
    np.save(tmp_path / "t/a.npy", labels()[0][::-1])
    np.save(tmp_path / "t/b.npy", labels()[0])
    pred, plain = npz(tmp_path / "p.npz", names), npz(tmp_path / "q.npz", ["b", "a"])
    for sides in ((tmp_path / "t", pred), (pred, tmp_path / "t"), (plain, pred), (pred, plain)):
        assert score(tmp_path, *sides, "--mpp", 0.25, "--protocol", "clean") == 0
        assert re.search(r"^\| clean +\| +1\.0000 \|", capsys.readouterr().out, re.MULTILINE)


def test_images_of_one_name_in_two_folders_are_compared_by_whole_names(tmp_path, capsys):
    one, other = npz(tmp_path / "p.npz", ["x/a", "y/a"]), npz(tmp_path / "q.npz", ["X/a", "y/a"])
    assert score(tmp_path, one, other, "--mpp", 0.25) == 0
    assert score(tmp_path, one, npz(tmp_path / "r.npz", ["a", "b"]), "--mpp", 0.25) == 2
    assert "2 of 2 images" in capsys.readouterr().err
    assert compared(["x/a", "y/a"], ["a"]) == [["x/a", "y/a"], ["a"]] and compared(["x/A.png"], ["a"]) == [["a"], ["a"]]


def test_numbers_beside_a_truth_that_names_its_types_are_said(tmp_path, capsys):
    """A run's predictions that were moved away from what names their types, for one."""
    instances, types = labels()
    (tmp_path / "data/labels").mkdir(parents=True)
    (tmp_path / "data/dataset.toml").write_text('name = "d"\nmpp = 0.25\nclasses = ["Dead", "Tumour", "Other"]\n')
    np.save(tmp_path / "data/labels/a.npy", np.stack([instances, types], -1))
    np.savez(tmp_path / "a.npz", instances=instances, types=types)
    (tmp_path / "p").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "p/a.npz")
    line = (tmp_path / "data", tmp_path / "p", "--mpp", 0.25)
    assert score(tmp_path, *line) == 0
    assert (
        f"{tmp_path / 'p'}: nothing names its types, those of {tmp_path / 'data'} are named (Dead, Tumour, Other)"
        in (capsys.readouterr().err)
    )
    (tmp_path / "types.toml").write_text('classes = ["Dead", "Tumour", "Other"]\n')
    assert score(tmp_path, *line, "--types", tmp_path / "types.toml") == 0
    assert "nothing names" not in capsys.readouterr().err
