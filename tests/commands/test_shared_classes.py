"""`evaluate` on data of other classes than the weights': those of both are scored by type, all nuclei as nuclei."""

import json
import math
import shutil

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data.sources.pannuke import CLASSES
from benchmark.results.collect import finished
from tests.support import class_orders

WHOLE = ("cellvit", "conic", "hovernet", "clean")  # protocols whose bPQ is of whole nuclei whatever their types
EXPECTED = {"conic": 0.75}  # of four images all found, one without nuclei, which counts as 0 there


@pytest.fixture(scope="module")
def method():
    return class_orders.network()


@pytest.fixture
def evaluated(tmp_path, capsys):
    """evaluated(weights, root, name) -> (folder of the run, stdout) of a folder data set."""

    def call(weights, root, name="results"):
        line = ["evaluate", "--weights", weights, "--dataset", "folder", "--data-root", root, "--device", "cpu"]
        code = main([str(word) for word in (*line, "--out", tmp_path / name, "--cache", tmp_path / "cache")])
        out, err = capsys.readouterr()
        assert code == 0, err
        (path,) = (tmp_path / name).rglob("metrics.json")
        return path.parent, out

    return call


def stored(folder) -> tuple[dict, dict, dict]:
    """config.json, the identity, and the scores of a run; NaN where there is no value."""
    metrics = json.loads((folder / "metrics.json").read_text())
    scores = {
        p: {k: math.nan if v is None else v for k, v in values.items()} for p, values in metrics["protocols"].items()
    }
    return json.loads((folder / "config.json").read_text()), metrics["identity"], scores


def test_classes_of_both_are_scored_and_all_nuclei_are_found(tmp_path, evaluated, method):
    """The same predictions and truth; once all five classes are known to both, once two of them under other names."""
    whole = ("Neoplastic", "Stromal", "Connective", "Necrotic", "Epithelial")
    root = class_orders.folder(tmp_path / "data", class_orders.found(method), CLASSES, CLASSES)
    known, _ = evaluated(class_orders.run_folder(tmp_path / "a", method, CLASSES), root, "known")
    shared, out = evaluated(class_orders.run_folder(tmp_path / "b", method, whole), root, "shared")
    both = ["Neoplastic", "Connective", "Epithelial"]
    assert f"predicted are {', '.join(whole)}, the dataset mine has {', '.join(CLASSES)}; mPQ and scores by type" in out
    assert f"are of {', '.join(both)} alone, and nuclei of other classes count in bPQ and detection." in out
    config, identity, ours = stored(shared)
    _, plain, theirs = stored(known)
    assert "Whether the training has seen test images was not looked into; `transfer` does." in out
    assert config["classes"] == both == identity["shared classes"] and "shared classes" not in plain
    assert config["transfer"]["classes"] == both and config["transfer"]["true_types"] == [1, 4, 2, 4, 3]
    for protocol in ours:
        for name in both:
            for key in (f"PQ_{name}", f"F1_{name}"):
                if key in theirs[protocol] and protocol != "conic":
                    assert ours[protocol][key] == pytest.approx(theirs[protocol][key], nan_ok=True), (protocol, key)
        if protocol in WHOLE:
            assert (
                ours[protocol]["bPQ"] == theirs[protocol]["bPQ"] == pytest.approx(EXPECTED.get(protocol, 1), abs=1e-5)
            )
            assert ours[protocol].get("F1", 1) == theirs[protocol].get("F1", 1) == 1
    assert 0.1 < ours["cellvit"]["mPQ"] < 0.9 and ours["cellvit"]["mPQ"] != theirs["cellvit"]["mPQ"]
    per_type = [ours["conic"][f"PQ_{name}"] for name in both]
    assert ours["conic"]["mPQ"] == pytest.approx(np.mean(per_type)), "over the classes of both"
    assert finished(shared).id.kind == "evaluated"


@pytest.mark.parametrize("typed", [True, False])
def test_data_without_a_common_class_are_scored_as_binary(tmp_path, evaluated, method, typed):
    names = ("a", "b", "c", "d", "e")
    root = class_orders.folder(tmp_path / "data", class_orders.found(method), names, names)
    if not typed:
        toml = root / "dataset.toml"
        toml.write_text(toml.read_text().replace(json.dumps(list(names)), "[]"))
        shutil.rmtree(root / "types")
    folder, out = evaluated(class_orders.run_folder(tmp_path, method, CLASSES), root)
    listed = "a, b, c, d, e" if typed else "none"
    assert f"the dataset mine has {listed}; none is the same, hence no mPQ" in out
    config, _, scores = stored(folder)
    assert config["classes"] == [] and config["transfer"]["classes"] == []
    for protocol, values in scores.items():
        assert values["bPQ"] == pytest.approx(EXPECTED.get(protocol, 1), abs=1e-5) and math.isnan(values["mPQ"]), (
            protocol
        )


def test_a_known_scheme_that_has_the_classes_is_named(tmp_path):
    from benchmark.data.sources.consep import CLASSES as OF_CONSEP
    from benchmark.experiment.elsewhere import schemes

    assert schemes(CLASSES, "consep", OF_CONSEP) == (
        "The data have the classes of the weights as consep@classes=pannuke."
    )
    assert schemes(CLASSES, "consep@classes=4", OF_CONSEP) == schemes(("x",), "consep", OF_CONSEP) == ""
