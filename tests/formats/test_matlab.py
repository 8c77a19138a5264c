"""MATLAB files are read alike where they are scored and where they become a data set."""

import numpy as np
import pytest
import scipy.io

from benchmark.data.files import label_files
from benchmark.data.nuclei import Nuclei
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames, read
from benchmark.runtime.errors import InputError
from tests.support.shared import shared

CLASSES = ("a", "b")
SHAPE = (30, 30)


def instances(speck: bool = False) -> np.ndarray:
    """Nuclei 2, 7 and 9, and a speck of one pixel with id 5."""
    labels = np.zeros(SHAPE, np.int32)
    labels[2:8, 2:8], labels[12:20, 2:9], labels[5:15, 15:25] = 2, 7, 9
    labels[28, 28] = 5 * speck
    return labels


def both(path, names=None) -> list[list[int]]:
    """Types in ascending order of id: as scored, and in a data set."""
    (image,) = collection(path, names or TypeNames(CLASSES)).images
    scored = image.read(None).nuclei(0.25)
    labels = label_files.labels(path, image.read(None).instances.shape, CLASSES)
    return [one.types.tolist() for one in (scored, Nuclei.from_labels(labels.instances, labels.types, 0.25))]


@pytest.mark.parametrize(("types", "ids"), [("inst_type", "inst_uid"), ("class", "id")])
def test_types_belong_to_the_ids_that_are_listed(tmp_path, capsys, types, ids):
    path = tmp_path / "a.mat"
    content = {"inst_map": instances(), types: [[1], [2], [2]], ids: [[9], [2], [7]], "bbox": np.zeros((3, 4))}
    scipy.io.savemat(path, content)
    assert both(path) == [[2, 2, 1]] * 2 and not capsys.readouterr().err


def test_a_speck_without_entry_has_no_type_and_is_said(tmp_path, capsys):
    path = tmp_path / "a.mat"
    content = {"inst_map": instances(speck=True), "inst_type": [[1], [2], [2]]}
    scipy.io.savemat(path, content | {"inst_uid": [[9], [2], [7]]})
    assert both(path) == [[2, 0, 2, 1]] * 2
    assert "a.mat inst_type: 1 of 4 nuclei have no entry in inst_uid (the first: 5)" in capsys.readouterr().err
    (tmp_path / "classes.toml").write_text('classes = ["a", "b"]\n[true]\n0 = "a"\n1 = "b"\n2 = "a"\n')
    assert both(path, read(tmp_path / "classes.toml").true)[0] == [1, 0, 1, 2]  # also where 0 means a class
    scipy.io.savemat(path, content)
    with pytest.raises(InputError, match="one type for each of 4 nuclei, found 3; add inst_uid, which says"):
        both(path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [([2, 2, 9], "each id once in inst_uid"), ([1, 3, 4], "no id of inst_map"), ([2, 9], "each of 2 nuclei in inst_u")],
)
def test_ids_that_do_not_fit_are_refused(tmp_path, ids, message):
    scipy.io.savemat(tmp_path / "a.mat", {"inst_map": instances(), "inst_type": [1, 2, 2], "inst_uid": ids})
    with pytest.raises(InputError, match=message):
        both(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"nuclei_class": [1, 2, 2]}, "nuclei_class is not read; types are called type_map, inst_type"),
        ({"class_map": instances() % 3, "cats": instances()}, "class_map, cats are not read"),
        ({"inst_centroid": np.zeros((3, 2)), "bbox": np.zeros((3, 4))}, ""),
    ],
)
def test_what_may_be_types_under_another_name_is_said(tmp_path, capsys, content, line):
    scipy.io.savemat(tmp_path / "a.mat", {"inst_map": instances()} | content)
    assert both(tmp_path / "a.mat") == [[0, 0, 0]] * 2
    err = capsys.readouterr().err
    assert line in err and bool(line) == bool(err)


def test_files_of_the_reference_data(capsys):
    folder = shared("faults/mat-inst-uid/folder/labels")
    assert both(folder / "c0.mat") == [[2, 2, 2, 2, 2, 2, 2, 2, 1]] * 2
    assert both(shared("faults/hovernet-mat-specks/pred/a.mat"))[0][-1] == 0
    assert "the first: 55" in capsys.readouterr().err
    with pytest.raises(InputError, match="each of 10 nuclei, found 9"):
        both(shared("faults/hovernet-mat-specks/pred-without-uid/a.mat"))
