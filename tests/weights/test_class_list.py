"""What the types of a file of weights are called: by its run, by its training set, or by nobody."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.data.files.class_names import ClassMap
from benchmark.data.sources import conic, pannuke
from benchmark.runtime.errors import InputError
from benchmark.weights.class_list import classes_of, classes_on
from benchmark.weights.recognise import Facts

OFFICIAL = Facts(Path("a.pth"), "cellvit", "sam_b", 5, 19, "plain")
APART = Facts(Path("weights.safetensors"), None, None, None, None, "safetensors", own=True)
REVERSED = pannuke.CLASSES[::-1]


@pytest.mark.parametrize(
    ("changes", "names", "says"),
    [
        ({"dataset": "pannuke"}, pannuke.CLASSES, "published order of PanNuke (Neoplastic, Inflammatory, "),
        ({"dataset": "conic", "classes": 6}, conic.CLASSES, "published order of CoNIC (neutrophil, epithelial, "),
        ({"dataset": "consep", "classes": 4}, ("other", "inflammatory", "epithelial", "spindle-shaped"), "of CoNSeP ("),
        ({"dataset": "pannuke", "classes": 4}, (), ""),
        ({"dataset": "kumar", "classes": 0}, (), ""),
        ({"dataset": "monusac", "classes": 4}, (), ""),
        ({}, (), ""),
        ({"own": True, "dataset": "pannuke"}, (), ""),
        ({"own": True, "dataset": "mine", "class_names": tuple("abcde")}, tuple("abcde"), ""),
    ],
)
def test_a_run_or_a_training_set_names_the_types(changes, names, says):
    found, sentence = classes_of(replace(OFFICIAL, **changes))
    assert found == names and says in sentence and bool(says) == bool(sentence)


def test_without_either_the_data_set_tells_or_nobody_does():
    found, why = classes_on(OFFICIAL, "folder", "mine", REVERSED, None)
    assert found == pannuke.CLASSES and "published order of PanNuke, whose classes mine has" in why
    found, why = classes_on(APART, "pannuke", "pannuke", pannuke.CLASSES, None)
    assert found == pannuke.CLASSES and "apart from their run" in why and "the order of pannuke (Neoplastic" in why
    with pytest.raises(InputError, match=r"nothing says .* mine has Epithelial, .*; put the config\.json of its run"):
        classes_on(APART, "folder", "mine", REVERSED, None)  # a folder's order is its owner's
    with pytest.raises(InputError, match=r"is cellvit@sam_b, 5 types, .* mine has 2 types .a, b.*--classes map\.toml"):
        classes_on(OFFICIAL, "folder", "mine", ("a", "b"), None)
    with pytest.raises(InputError, match="nothing says what its types 1, 2, … are"):
        classes_on(OFFICIAL, "folder", "mine", tuple("abcde"), None)


def test_a_map_calls_types_without_names_by_their_numbers():
    class_map = ClassMap(Path("map.toml"), {"1": "a", "2": "b", "3": "a"})
    assert classes_on(APART, "folder", "mine", ("a", "b"), class_map) == (("1", "2", "3"), "")
    assert classes_on(OFFICIAL, "folder", "mine", ("a", "b"), class_map) == (tuple("12345"), "")
    known = replace(OFFICIAL, dataset="pannuke")
    assert classes_on(known, "folder", "mine", ("a",), class_map)[0] == pannuke.CLASSES
