"""Canonical names of methods with their settings: fit for every file system, two values never under one name."""

import pytest

from benchmark.results.method_name import LONGEST, Word, canonical, described, parts
from benchmark.runtime.plugins import words_of


def name(**values):
    return canonical("cellvta@small", [Word.of(key, value) for key, value in values.items()])[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0005, "0.0005"),
        (5e-4, "0.0005"),
        (1e-5, "1e-05"),
        (8, "8"),
        (True, "true"),
        (None, "none"),
        ("adapter+full", "adapter+full"),
        ((0.9, 0.95), "(0.9,0.95)"),
    ],
)
def test_a_value_stands_for_itself(value, text):
    assert str(Word.of("key", value)) == f"key={text}"


UNFIT = [
    ({"name": "flip", "p": 0.5},),  # its colons are no part of a file's name on Windows
    "a/b",
    "a\\b",
    'a"b',
    "a b",
    "a\x07b",
    "ä",
    "a.",
    "a@b",
    "Adam",  # beside "adam" the same folder on macOS and Windows
    "true",  # a text that reads as something else
    "8",
    "a,b",  # would read as two words
    "(",
    "~1a2b3c4d",
    "x+published",  # would read as another kind of run
    "x" * 41,
]


@pytest.mark.parametrize("value", UNFIT, ids=repr)
def test_a_value_that_is_unfit_becomes_a_hash(value):
    word = Word.of("key", value)
    assert word.text != value and word.text.startswith("~") and len(word.text) == 9
    assert canonical("m@small", [word]) == (f"m@small,key={word.text}", {"key": value})


def test_values_that_differ_never_share_a_name():
    values = [*UNFIT, "a:b", "a|b", 8, 8.0, True, "adam", ({"name": "flip", "p": 0.25},), "x" * 42]
    assert len({name(key=value) for value in values}) == len(values)
    assert Word.of("key", ({"name": "flip"},)).text == Word.of("key", [{"name": "flip"}]).text, "as JSON gives it back"


def test_a_name_that_grows_too_long_ends_in_a_hash():
    values = {f"recipe.a_rather_long_key_{i}": i / 8 for i in range(12)}
    long = name(**values)
    head, settings = parts(long)
    assert head == "cellvta@small" and len(long) <= LONGEST and settings[-1].startswith("~")
    assert settings[:-1] == [f"{key}={value}" for key, value in list(values.items())[: len(settings) - 1]]
    hidden = canonical("cellvta@small", [Word.of(key, value) for key, value in values.items()])[1]
    assert hidden == dict(list(values.items())[len(settings) - 1 :])
    assert name(**values | {"recipe.a_rather_long_key_11": 9.5}) != long
    fits = {"recipe.a": "x" * 40, "recipe.b": "y" * 40, "recipe.c": "z" * 27}
    assert len(name(**fits)) == LONGEST and "~" not in name(**fits)


def test_parts_of_a_name():
    whole = "cellvta@small,points=8,recipe.optimiser.betas=(0.9,0.95),weights=uni.bin-1a2b3c4d"
    assert parts(whole) == (
        "cellvta@small,points=8",
        ["recipe.optimiser.betas=(0.9,0.95)", "weights=uni.bin-1a2b3c4d"],
    )
    assert parts("cellvta@small") == ("cellvta@small", []) and parts("mytool") == ("mytool", [])


def test_commas_within_brackets_part_nothing():
    assert words_of("small,a=(1,2),b=[{'x':(3,4)},5],c=6") == ["small", "a=(1,2)", "b=[{'x':(3,4)},5]", "c=6"]
    assert words_of("a),b") == ["a)", "b"] and words_of("") == []


def test_settings_as_tables_show_them():
    settings = {"recipe.optimiser.lr": 0.0005, "recipe.optimiser.betas": [0.8, 0.9], "weights": "random"}
    assert described(settings) == "optimiser.lr 0.0005, optimiser.betas (0.8,0.9)"
    assert described({}) == ""
