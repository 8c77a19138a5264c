"""Class maps of data sets: complete, named, one cache and one name in results for each scheme."""

import re

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands import _options
from benchmark.data.registry import DATASETS, dataset, dataset_names, results_name
from benchmark.data.sources import class_map
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import field_files

assert dataset_names()  # which registers them
OWN = ("tumour", "lymphocyte", "stroma")
TEXT = 'classes = ["cell", "other"]\n[map]\n"Tumour" = "cell"\n"lymphocyte" = "cell"\n"stroma" = ""\n'


def scheme(tmp_path, text, own=OWN, name="mine.toml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return class_map.read(str(tmp_path / name), "mystudy", own)


@pytest.mark.parametrize("path", sorted(class_map.FOLDER.glob("*.toml")), ids=lambda p: p.stem)
def test_every_known_map_is_of_a_registered_data_set_and_complete(path):
    name = max((n for n in dataset_names() if path.stem.startswith(f"{n}-")), key=len)
    own = DATASETS.get(name).classes
    seen = class_map.read(path.stem, name, own)
    assert seen == class_map.read(path.stem.removeprefix(f"{name}-"), name, own)
    assert len(seen.table) == len(own) + 1 and seen.table[0] == 0 and max(seen.table) <= len(seen.classes)


def test_the_published_four_classes_of_consep():
    seen = class_map.read("4", "consep", DATASETS.get("consep").classes)
    assert seen.classes == ("other", "inflammatory", "epithelial", "spindle-shaped")
    assert seen.table == (0, 1, 2, 3, 3, 4, 4, 4)


def test_a_map_of_ones_own_goes_by_its_content(tmp_path):
    seen = scheme(tmp_path, TEXT)
    assert (seen.classes, seen.table) == (("cell", "other"), (0, 1, 1, 0))
    assert re.fullmatch(r"mine-[0-9a-f]{8}", seen.name)
    assert scheme(tmp_path, "# a remark\n" + TEXT).name == seen.name
    assert scheme(tmp_path, TEXT.replace('"stroma" = ""', '"stroma" = "other"')).name != seen.name
    assert scheme(tmp_path, TEXT, name="a b.toml").name == seen.name.replace("mine", "map")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace('"stroma" = ""\n', ""), "found none for stroma"),
        (lambda t: t + '"glia" = "cell"\n', "found one for 'glia'"),
        (lambda t: t + '"tumour" = "cell"\n', "found one twice"),
        (lambda t: t.replace('= "cell"', '= "cells"'), "found 'cells'; correct it. Did you mean 'cell'"),
        (lambda t: t.replace('= "cell"', "= 1"), "found 1; correct it"),
        (lambda t: t.replace('"other"]', '"Cell"]'), "distinct names in classes, found cell, Cell"),
        (lambda t: t.replace('["cell", "other"]', "[]"), "distinct names in classes, found none"),
        (lambda t: t.replace('["cell", "other"]', '"cell"'), "expected classes ="),
        (lambda t: t + "[more]\n", r"found classes, map, more"),
        (lambda t: "", "found nothing"),
        (lambda t: "classes = [", "is not readable TOML"),
    ],
)
def test_refuses(tmp_path, change, message):
    with pytest.raises(InputError, match=re.escape(message) if "\\" not in message else message):
        scheme(tmp_path, change(TEXT))


def test_unknown_schemes_and_data_without_types_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of 4, pannuke, or a TOML file, found neither"):
        class_map.read("5", "consep", ("a",))
    with pytest.raises(InputError, match="expected one of none, or a TOML file"):
        class_map.read("4", "pannuke", ("a",))
    with pytest.raises(InputError, match="monuseg@classes=4: the data set has no types to map"):
        dataset("monuseg@classes=4", tmp_path)


def test_types_are_mapped_and_each_scheme_has_its_own_cache_and_name(tmp_path, capsys):
    root, cache = field_files.consep(tmp_path / "d"), tmp_path / "c"
    own, four, pannuke = (
        prepare(dataset(f"consep{words}", root), cache, split=1)
        for words in ("", "@classes=4", "@classes=consep-pannuke")
    )
    assert four.classes == ("other", "inflammatory", "epithelial", "spindle-shaped")
    table = np.array([0, 1, 2, 3, 3, 4, 4, 4])
    for i in range(5):
        before, after = own.folds[1][i].nuclei, four.folds[1][i].nuclei
        assert after.types.tolist() == table[before.types].tolist()
        assert np.array_equal(before.instances, after.instances)
        dropped = pannuke.folds[1][i].nuclei
        assert len(dropped) == len(before), "a nucleus of a dropped class stays a nucleus"
        assert ((dropped.types == 0) == (before.types == 1)).all()
    assert len({data.fingerprint(1) for data in (own, four, pannuke)}) == 3
    assert own.licence == four.licence == "research use only"
    assert sorted(p.name.partition("-fold")[0] for p in cache.iterdir() if p.is_dir()) == sorted(
        2 * ["consep", "consep@classes=4", "consep@classes=pannuke"]
    )
    assert "consep@classes=4: the classes are mapped: other as other" in capsys.readouterr().err


def test_one_scheme_has_one_name_however_it_is_written(tmp_path):
    root = field_files.consep(tmp_path / "d")

    def label(text):
        return results_name(text, dataset(text, root))

    assert label("consep@classes=4") == label("consep@classes=consep-4") == "consep@classes=4"
    assert label("consep@classes=consep-4,patch=64") == "consep@patch=64,classes=4"
    (tmp_path / "mine.toml").write_text((class_map.FOLDER / "consep-4.toml").read_text())
    assert re.fullmatch(r"consep@classes=mine-[0-9a-f]{8}", label(f"consep@classes={tmp_path / 'mine.toml'}"))
    assert label("synthetic@patches=6,classes=" + str(own_synthetic(tmp_path))).startswith(
        "synthetic@patches=6,classes="
    )


def own_synthetic(tmp_path):
    lines = [f'"{name}" = "nucleus"' for name in DATASETS.get("synthetic").classes]
    (tmp_path / "one.toml").write_text('classes = ["nucleus"]\n[map]\n' + "\n".join(lines))
    return tmp_path / "one.toml"


def test_an_argument_that_is_named_twice_is_refused(tmp_path, capsys):
    """The later one won without a word: --classes over the scheme in the name of the data set."""
    line = ["prepare", "--dataset", "consep@classes=4", "--classes", "pannuke", "--data-root", str(tmp_path)]
    assert main([*line, "--cache", str(tmp_path / "cache")]) == 2
    printed = "Dataset 'consep': expected classes once, found classes=4 and classes=pannuke; keep one (--classes and"
    assert printed in capsys.readouterr().err
    with pytest.raises(InputError, match=r"expected patches once, found patches=6 and patches=7; keep one\."):
        dataset("synthetic@patches=6,patches=7")


def test_the_option_is_short_for_the_argument(tmp_path, capsys):
    assert _options.with_scheme("consep", "4") == "consep@classes=4"
    assert _options.with_scheme("consep@patch=64", "4") == "consep@patch=64,classes=4"
    assert _options.with_scheme("consep", None) == "consep"
    root = field_files.consep(tmp_path / "d")
    words = ["--dataset", "consep", "--data-root", str(root), "--cache", str(tmp_path / "c")]
    assert main(["prepare", *words, "--classes", "4"]) == 0
    assert "consep@classes=4: folds 1 (5 images), 2 (3 images); 4 types" in capsys.readouterr().out
    assert main(["prepare", *words, "--classes", "5"]) == 2
    assert "error: consep@classes=5: expected one of 4, pannuke" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["classes={}", "classes={},patch=64", "patch=64,classes={}"])
def test_a_path_with_a_comma_is_one_sentence(tmp_path, words):
    path = tmp_path / "map,6,7.toml"
    with pytest.raises(InputError) as caught:
        dataset(f"consep@{words.format(path)}", tmp_path)
    assert str(caught.value) == (
        "Dataset 'consep': expected a class map whose path has no comma, which parts the arguments, found "
        f"'{path}'; rename or move the file."
    )
    with pytest.raises(InputError, match=r"has no argument 'pach'; .* Did you mean 'patch'"):
        dataset("consep@classes=4,pach=64", tmp_path)


def test_a_map_that_leaves_all_classes_untyped_is_said(tmp_path):
    lines = [f'"{name}" = ""' for name in DATASETS.get("consep").classes]
    (tmp_path / "none.toml").write_text('classes = ["nucleus"]\n[map]\n' + "\n".join(lines))
    root = field_files.consep(tmp_path / "d")
    last = dataset(f"consep@classes={tmp_path / 'none.toml'}", root).remarks()[-1]
    assert "this leaves every class untyped, so no nucleus has a type, as may be meant to train or test on" in last
    assert not any("every class untyped" in line for line in dataset("consep@classes=4", root).remarks())
