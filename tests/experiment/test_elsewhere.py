"""Weights on other data: the resolution at which these are seen, what is known of the overlap, and the identity."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.data.files.class_names import by_shared_names
from benchmark.data.overlap import Overlap
from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.experiment import elsewhere
from benchmark.runtime.errors import InputError
from benchmark.weights.fit import other_split
from benchmark.weights.recognise import Facts
from tests.support.annotated_files import lizard

RUN = Facts(Path("w.safetensors"), "cellvta", "small", 5, 0, "own", own=True, dataset="mine", split=1, mpp=0.25)
FILE = Facts(Path("a.pth"), "cellvit", "sam_b", 5, 19, "published", dataset="pannuke", trained=(1, 2), split=1)


@pytest.mark.parametrize(
    ("facts", "label", "mpp", "tiling", "seen"),
    [
        (RUN, "other", 0.5, "none", 0.25),
        (RUN, "other", 0.25, "none", None),
        (RUN, "other", 0.2575, "none", None),  # within 5 %
        (RUN, "mine", 0.5, "none", None),
        (RUN, "mine@classes=4", 0.5, "none", None),
        (replace(RUN, mpp=None), "other", 0.5, "none", None),
        (replace(RUN, mpp=0.5), "other", 0.25, "conic40_corrected", 0.5 * 8 / 15),  # tiles of 0.2667 µm/px
        (replace(RUN, mpp=0.5), "other", 0.5, "conic40", 0.5 * 8 / 15),
        (FILE, "lizard", 0.5, "none", 0.25),
        (replace(FILE, magnification=20), "monuseg", 0.25, "none", 0.5),
        (replace(FILE, dataset=None), "monuseg", 0.5, "none", None),
    ],
)
def test_the_resolution_of_the_training_is_what_the_network_sees(facts, label, mpp, tiling, seen):
    assert elsewhere.seen_mpp(facts, label, mpp, tiling) == (None if seen is None else pytest.approx(seen))


def setup(name, root, tmp_path):
    source = dataset(name, root)
    return SimpleNamespace(label=name, source=source, cache=tmp_path / "cache")


def test_what_names_tell_without_the_training_images(tmp_path):
    of_lizard = setup("lizard", lizard(tmp_path / "lizard"), tmp_path)
    overlap = elsewhere.known_overlap(FILE, of_lizard, 2)
    assert (overlap.images, overlap.left_out) == (2, (1,)), "pannuke_5"
    assert elsewhere.known_overlap(RUN, of_lizard, 2) is None
    assert elsewhere.known_overlap(replace(FILE, dataset="lizard"), of_lizard, 2) is None, "its own data set"
    for trained in ("conic", "conic@classes=consep"):
        with pytest.raises(InputError, match=r"it was trained on conic.*, which holds images of lizard, .*cannot be"):
            elsewhere.known_overlap(replace(RUN, dataset=trained), of_lizard, 2)


def test_of_weights_of_several_sets_each_is_known(tmp_path):
    of_lizard = setup("lizard", lizard(tmp_path / "lizard"), tmp_path)
    both = replace(RUN, dataset="mine+pannuke@classes=x", sets=("mine", "pannuke@classes=x"), evidence="its run")
    overlap = elsewhere.known_overlap(both, of_lizard, 2)
    assert (overlap.images, overlap.left_out) == (2, (1,)), "pannuke_5"
    with pytest.raises(InputError, match=r"trained on mine\+conic, which holds images of lizard"):
        elsewhere.known_overlap(replace(both, dataset="mine+conic", sets=("mine", "conic")), of_lizard, 2)
    own = replace(both, dataset="mine+lizard@classes=conic", sets=("mine", "lizard@classes=conic"))
    assert elsewhere.known_overlap(own, of_lizard, 2) is None, "its own test side"
    assert elsewhere.other_data(own, "lizard") and elsewhere.other_data(both, "mine")
    for name in ("mine", "mine@classes=4", "pannuke"):
        assert other_split(both, name, 2).startswith("its run was on FOLD=1, FOLD=2 was asked for")
        assert other_split(both, name, 1) == ""
    assert other_split(both, "other", 2) == ""
    scheme_first = replace(both, dataset="consep@classes=4+mine", sets=("consep@classes=4", "mine"))
    assert elsewhere.other_data(scheme_first, "consep"), "the name of the joint set is no scheme of its first"


def test_a_scheme_of_the_training_set_is_the_same_images():
    misfit = other_split(replace(RUN, evidence="its run"), "mine@classes=4", 2)
    assert misfit.startswith("its run was on FOLD=1, FOLD=2 was asked for")
    assert other_split(replace(RUN, dataset="mine@classes=4,patch=64"), "mine@patch=64", 1) == ""
    assert other_split(RUN, "other", 2) == ""
    assert not elsewhere.other_data(RUN, "mine@classes=4") and elsewhere.other_data(RUN, "mine@patch=64")
    assert not elsewhere.other_data(replace(RUN, dataset=None), "mine")


def test_nothing_is_added_to_an_identity_where_nothing_differs():
    same = by_shared_names(("a", "b"), ("b", "a"), "w", "x")
    assert elsewhere.identity(same, None, Overlap(5)) == elsewhere.identity(None, None, None) == {}
    shared = by_shared_names(("a", "b"), ("b", "c"), "w", "x")
    assert (shared.to, shared.true, shared.shared) == ((2, 1), (1, 2), ("b",))
    assert elsewhere.identity(shared, 0.25, Overlap(5, (1, 3), 2)) == {
        "shared classes": ["b"],
        "seen mpp": 0.25,
        "resampling": "bilinear-nearest",
        "left out": [1, 3],
    }


def test_what_is_written_of_a_test_elsewhere():
    facts = replace(RUN, run={"dataset": "mine", "method": "cellvta@small", "fold": 1, "seed": 0, "kind": "main"})
    shared = by_shared_names(("a", "b"), ("b", "c"), "w", "x")
    entry = elsewhere.describe(facts, "other", ("b", "c"), shared, 0.25, Overlap(5, (1,), 1, 0, "why"))["transfer"]
    assert entry["trained"] == facts.run and entry["classes"] == ["b"] and entry["true_types"] == [1, 2]
    assert entry["overlap"] == {"images": 5, "left_out": 1, "by_name": 1, "by_pixels": 0, "unknown": "why"}
    assert elsewhere.describe(facts, "mine", ("b", "c"), None, None, None) == {}
    assert elsewhere.describe(facts, "other", (), None, None, None)["transfer"]["classes"] is None


def test_the_remarks_are_left_to_the_run(tmp_path, capsys):
    """`evaluate` prepares the data once to know the overlap and once to run: each remark was printed twice."""
    of_lizard = setup("lizard", lizard(tmp_path / "lizard"), tmp_path)
    elsewhere.known_overlap(FILE, of_lizard, 2)
    assert "the published set has 238" not in capsys.readouterr().err
    prepare(of_lizard.source, of_lizard.cache, 2)
    assert capsys.readouterr().err.count("the published set has 238") == 1
