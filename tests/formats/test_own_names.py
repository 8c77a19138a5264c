"""Types as files of contours name them: every common form of the names, what they lack, types under other keys."""

import json

import numpy as np
import pytest

from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames
from benchmark.runtime.errors import InputError
from tests.support.foreign_files import CLASSES, NAMES, SHAPE, centres, corners, feature, labels, only, same

THEIRS = {1: "Dead", 2: "Neoplastic", 3: "Inflammatory"}  # another order than that of CLASSES
RED = [255, 0, 0]
FORMS = {
    "names": {str(k): name for k, name in THEIRS.items()},
    "names and colours": {"0": ["nolabe", [0, 0, 0]]} | {str(k): [name, RED] for k, name in THEIRS.items()},
    "objects": {str(k): {"name": name, "color": RED} for k, name in THEIRS.items()},
    "list": ["Background", *THEIRS.values()],
    "list with colours": [["Background", RED], *([name, RED] for name in THEIRS.values())],
    "list of objects": [{"id": k, "name": name} for k, name in THEIRS.items()],
    "ids by name": {name: k for k, name in THEIRS.items()},
    "objects by name": {name: {"id": k, "color": RED} for k, name in THEIRS.items()},
}


def nuclei(kind=lambda k: k, called: str = "type") -> list[dict]:
    """The nuclei of `labels` whose types are the numbers of THEIRS."""
    instances, types = labels()
    number = {CLASSES.index(name) + 1: k for k, name in THEIRS.items()}
    return [
        {"contour": centres(instances, k), called: kind(number[int(types[instances == k][0])])} for k in (2, 7, 300)
    ]


def written(path, **content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("called", ["type_map", "type_info"])
@pytest.mark.parametrize("kind", [int, str, float])
def test_names_of_types_are_read_in_every_common_form(tmp_path, form, called, kind):
    path = written(tmp_path / "a.json", **{called: FORMS[form]}, cells=nuclei(kind))
    same(only(path), *labels())


def test_a_name_of_the_id_0_is_a_type_and_a_background_is_none(tmp_path):
    instances, types = labels()
    of = {"0": "Neoplastic", "1": "Inflammatory", "2": "Dead"}
    same(only(written(tmp_path / "a.json", type_map=of, cells=nuclei(lambda k: (k + 1) % 3))), instances, types)
    of = {"0": "Background"}
    path = written(tmp_path / "a.json", type_map=of, cells=nuclei(lambda k: 0))
    same(only(path), instances, types * 0)


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        ({"1": "Dead"}, r"none for 2, 3 \(it has 1 = Dead\); add them there, or list these ids in --types"),
        ({"4": "Dead"}, r"none for 1, 2, 3 \(it has none of those that occur\)"),
        (["Dead", "Neoplastic", "Inflammatory"], "a list of names, the first of them Background"),
        ({"1": 1, "2": 2, "3": 3}, "expected type_map to name each id once"),
        ({"Dead": 1, "Neoplastic": 1, "Inflammatory": 3}, "expected type_map to name each id once"),
        ({"Dead": 1.5}, "expected type_map to name each id once"),
        ({"Dead": "1"}, "expected type_map to name each id once"),
    ],
)
def test_names_that_are_not_whole_or_not_known_are_refused(tmp_path, of, sentence):
    path = written(tmp_path / "a.json", type_map=of, cells=nuclei())
    with pytest.raises(InputError, match=sentence):
        only(path)
    same(only(path, TypeNames(CLASSES, {"1": 3, "2": 1, "3": 2})), *labels())  # the user's word on every id


def test_a_table_gives_the_names_that_a_file_lacks(tmp_path):
    path = written(tmp_path / "a.json", type_map={"1": "Dead"}, cells=nuclei())
    same(only(path, TypeNames(CLASSES, {"2": 1, "3": 2})), *labels())


def test_two_lists_of_names_that_differ_are_refused(tmp_path):
    other = FORMS["names"] | {"1": "Neoplastic", "2": "Dead"}
    path = written(tmp_path / "a.json", type_map=FORMS["names"], type_info=other, cells=nuclei())
    with pytest.raises(InputError, match="its type_map and its type_info name its types differently"):
        only(path)
    same(only(written(path, type_map=FORMS["names"], type_info=FORMS["objects"], cells=nuclei())), *labels())


def test_a_type_as_digits_is_its_number_unless_a_class_is_called_so(tmp_path):
    instances, types = labels()
    path = written(tmp_path / "a.json", nuc={str(n): one for n, one in enumerate(nuclei(str))})
    theirs = np.array([0, 2, 3, 1], np.uint8)[types]
    for names in (TypeNames(), NAMES):
        same(only(path, names), instances, theirs)
    same(only(path, TypeNames(("3", "1", "2"))), instances, np.array([0, 2, 3, 1], np.uint8)[theirs])
    with pytest.raises(InputError, match=r"expected types 0\.\.2 \(a, b\), found 3"):
        only(path, TypeNames(("a", "b")))


@pytest.mark.parametrize("called", ["class", "label", "category", "type_id", "cell_type", "inst_cls"])
def test_types_under_another_key_are_said(tmp_path, capsys, called):
    path = written(tmp_path / "a.json", nuc={str(n): one for n, one in enumerate(nuclei(called=called))})
    same(only(path), labels()[0])
    assert f"a.json: {called} is not read; types are called type\n" in capsys.readouterr().err
    features = [feature([corners(labels()[0], k)], None) for k in (2, 7, 300)]
    for one in features:
        one["properties"][called] = "Dead"
    same(only(written(tmp_path / "a.geojson", features=features)), labels()[0])
    assert f"a.geojson: {called} is not read; types are called classification\n" in capsys.readouterr().err


@pytest.mark.parametrize("distinct", [True, False])
def test_a_name_that_several_outlines_have_may_be_a_type(tmp_path, capsys, distinct):
    features = [feature([corners(labels()[0], k)], None) for k in (2, 7, 300)]
    for n, one in enumerate(features):
        one["properties"]["name"] = f"Dead {n * distinct}"
    same(only(written(tmp_path / "a.geojson", features=features)), labels()[0])
    assert ("name is not read" in capsys.readouterr().err) is not distinct


def test_what_tools_write_beside_types_is_not_said(tmp_path, capsys):
    each = [one | {"type_prob": 0.5, "class": None} for one in nuclei()]
    only(written(tmp_path / "a.json", mag=40, type_map=FORMS["names"], cells=each))
    assert not capsys.readouterr().err
    only(written(tmp_path / "a.json", class_names=["a"], cells=nuclei()))
    assert "class_names is not read; types are called type_map" in capsys.readouterr().err


def test_a_classification_without_a_name_is_refused(tmp_path):
    features = [feature([corners(labels()[0], 2)], None)]
    features[0]["properties"]["classification"] = {"label": "Dead"}
    with pytest.raises(InputError, match=r"expected a name in properties\.classification, found label"):
        only(written(tmp_path / "a.geojson", features=features))


def test_a_file_of_tiatoolbox_without_nuclei_is_empty(tmp_path):
    (image,) = collection(written(tmp_path / "a.json"), NAMES).images
    assert not image.read(SHAPE).instances.any() and image.read(SHAPE).typed is None
