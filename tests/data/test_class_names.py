"""Names of classes: what one name is, which lists belong together, and what a map may say."""

import pytest

from benchmark.data.files.class_names import distinct, key, matched, read_map
from benchmark.data.sources import folder_settings
from benchmark.runtime.errors import InputError

E = ("é", "e\u0301")  # one letter, as Windows and macOS write it


def written(tmp_path, text: str):
    path = tmp_path / "map.toml"
    path.write_text(text, encoding="utf-8")
    return read_map(path)


def test_one_name_in_both_forms_of_letters_blanks_and_capitals():
    assert key(f" N{E[0]}crose") == key(f"n{E[1]}CROSE ") and key("Dead") != key("Dead cell")
    assert distinct(["a", "b"]) and not distinct(["a", " A"]) and not distinct(list(E))


@pytest.mark.parametrize(
    ("own", "to"),
    [
        (("a", "b", "c"), (1, 2, 3)),
        (("c", "A", f"{E[1]}"), None),
        (("b", "c", "A"), (2, 3, 1)),
        ((), None),
        (("a", "b"), None),
        (("a", "b", "b"), None),
        (("a", "b", "c", "d"), None),
    ],
)
def test_the_same_names_in_any_order_and_nothing_else(own, to):
    if to is None:
        with pytest.raises(InputError, match=r"x: expected the classes of y \(a, b, c\), found .*--classes map\.toml"):
            matched(own, ("a", "b", "c"), "x", "y")
        return
    found = matched(own, ("a", "b", "c"), "x", "y")
    assert found.to == to and found.names == tuple("abc"[k - 1] for k in to)
    assert (found.table is None) == (found.remark == "") == (to == (1, 2, 3))
    assert found.table is None or found.table.tolist() == [0, *to]


def test_both_forms_of_a_letter_are_one_class():
    assert matched((f"{E[1]}", "b"), ("B", f"{E[0]}"), "x", "y").to == (2, 1)


def test_a_map_merges_leaves_untyped_and_names_what_is_never_predicted(tmp_path):
    class_map = written(tmp_path, '[classes]\na = "X"\n"B " = "x"\nc = ""\n')
    found = matched(("A", "b", "c"), ("x", "y"), "p", "d", class_map)
    assert found.to == (1, 1, 0) and found.names == ("x", "x", "") and found.table.tolist() == [0, 1, 1, 0]
    assert found.remark == "The classes are mapped by map.toml: A as x, b as x, c as untyped; never predicted: y."
    assert class_map.ids(("x", "y")) == {"a": 1, "b": 1, "c": 0}


def test_the_mark_of_a_map_is_that_of_its_content(tmp_path):
    one = written(tmp_path, '[classes]\na = "x"\nb = "y"\n')
    assert one.mark == written(tmp_path, '[classes]\nb = "Y"\nA = "x"\n').mark
    assert one.mark != written(tmp_path, '[classes]\na = "y"\nb = "x"\n').mark


def test_classes_of_a_data_set_are_distinct_names_in_one_form(tmp_path):
    path = tmp_path / "dataset.toml"
    path.write_text(f'classes = [" N{E[1]}crose", "b"]\nmpp = 0.25\n', encoding="utf-8")
    assert folder_settings.read(path)["classes"] == [f"N{E[0]}crose", "b"]
    for names in (f'["{E[0]}", "{E[1]}"]', '["a", "A"]', '["a", " "]'):
        path.write_text(f"classes = {names}\nmpp = 0.25\n", encoding="utf-8")
        with pytest.raises(InputError, match="expected classes to be a list of distinct names"):
            folder_settings.read(path)
