"""Classes are compared by name: an order is one of the data set's own, other names are refused, a map is the user's."""

import csv
import json
import math
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands import postprocess
from benchmark.data.registry import dataset
from benchmark.data.sources.pannuke import CLASSES
from benchmark.data.store.prepare import prepare
from benchmark.report.write import write_tables
from benchmark.results import predictions
from benchmark.results.collect import finished
from benchmark.runtime.errors import InputError
from tests.support import class_orders
from tests.support.class_orders import METHOD, OTHER
from tests.support.official_files import config, published_state, save_cellvit

ACCENTED = ("Tumeur", "Immunité", "Conjonctif", "Nécrose", "Épithélium")


@pytest.fixture(scope="module")
def method():
    return class_orders.network()


@pytest.fixture(scope="module")
def truth(method):
    nuclei = class_orders.found(method)
    assert len({int(t) for image in nuclei for t in image.types}) >= 3, "the test must see several types"
    return nuclei


@pytest.fixture
def official(tmp_path, method):
    """A file in CellVTA's published layout, which names no classes; its name and configuration name PanNuke."""
    path = tmp_path / "CellVTA_UNI_pannuke_split1.pth"
    return save_cellvit(path, published_state(method), "CellViTUNIAdapter")


@pytest.fixture
def call(tmp_path, capsys):
    """call(file, data, *words) -> (exit code, stdout, stderr) of `evaluate` on a folder data set."""

    def evaluate(path, root, *words, results="results"):
        line = ["evaluate", "--weights", path, "--dataset", "folder", "--data-root", root, "--device", "cpu"]
        line += ["--out", tmp_path / results, "--cache", tmp_path / "cache", *words]
        code = main([str(word) for word in line])
        return code, *capsys.readouterr()

    return evaluate


def scores(results) -> dict:
    """The stored scores of the only run; NaN where there is no value."""
    (path,) = results.rglob("metrics.json")
    stored = json.loads(path.read_text())["protocols"]
    return {p: {k: math.nan if v is None else v for k, v in values.items()} for p, values in stored.items()}


def told(results) -> dict:
    (path,) = results.rglob("config.json")
    return json.loads(path.read_text())


def class_map(tmp_path, **lines):
    path = tmp_path / "map.toml"
    path.write_text("[classes]\n" + "".join(f'"{k}" = "{v}"\n' for k, v in lines.items()), encoding="utf-8")
    return path


def test_the_order_of_names_in_the_data_set_changes_no_score(call, tmp_path, method, truth):
    """The same weights of a run, images and truth: once another mPQ, exit 0."""
    weights = class_orders.run_folder(tmp_path, method, CLASSES)
    of_order = {}
    for name, classes in (("same", CLASSES), ("other", OTHER)):
        root = class_orders.folder(tmp_path / name, truth, CLASSES, classes)
        code, out, err = call(weights, root, results=f"r-{name}")
        assert code == 0, err
        of_order[name] = scores(tmp_path / f"r-{name}")
        assert ("The classes are reordered by name" in out) == (name == "other")
    assert set(of_order["same"]) == set(of_order["other"])
    for name, same in of_order["same"].items():  # sums over the classes are taken in another order
        assert of_order["other"][name] == pytest.approx(same, rel=1e-12, abs=0, nan_ok=True), name
    cellvit = of_order["same"]["cellvit"]
    assert 0.1 < cellvit["mPQ"] < 0.9, "types matter here"
    assert len({cellvit[f"F1_{name}"] for name in CLASSES}) > 2
    assert told(tmp_path / "r-other")["classes"] == list(OTHER)

    same, other = (next((tmp_path / f"r-{name}").rglob("metrics.json")) for name in ("same", "other"))
    assert "classes" not in json.loads(same.read_text())["identity"], "identities of results without a change stay"
    assert json.loads(other.read_text())["identity"]["classes"] == list(CLASSES)
    kept, moved = (predictions.load(path.parent / "predictions.npz", [0, 1, 2, 3], 0.25) for path in (same, other))
    for ours, theirs in zip(kept, moved, strict=True):
        named = [[names[k - 1] for k in nuclei.types] for names, nuclei in ((CLASSES, ours), (OTHER, theirs))]
        assert named[0] == named[1]
    note = "The classes are reordered by name: predicted are Neoplastic, Inflammatory, Connective, Dead, Epithelial; "
    assert f"{note}the dataset mine has {', '.join(OTHER)}." in write_tables(tmp_path / "r-other", tmp_path / "tables")
    code, _, err = call(weights, tmp_path / "other", results="r-other")
    assert code == 0 and "already done" in err


def test_official_files_take_the_published_order_of_their_training_set(call, tmp_path, official, truth):
    of_order = {}
    for name, classes in (("same", CLASSES), ("other", OTHER)):
        root = class_orders.folder(tmp_path / name, truth, CLASSES, classes)
        code, out, err = call(official, root, "--method", METHOD, results=f"r-{name}")
        assert code == 0, err
        assert "The file names no classes: they are taken in the published order of PanNuke (Neoplastic, " in out
        assert ("The classes are reordered by name" in out) == (name == "other")
        of_order[name] = scores(tmp_path / f"r-{name}")
    same, other = (of_order[name]["cellvit"] for name in ("same", "other"))
    assert other == pytest.approx(same, rel=1e-12, abs=0, nan_ok=True) and 0.1 < same["mPQ"] < 0.9


def test_a_file_of_an_unknown_training_set(call, tmp_path, method, truth):
    """PanNuke's order where the data have PanNuke's classes; else nobody knows what its types are."""
    settings = {key: value for key, value in config().items() if key != "data.dataset"}
    path = save_cellvit(tmp_path / "model_best.pth", published_state(method), "CellViTUNIAdapter", settings)
    root = class_orders.folder(tmp_path / "other", truth, CLASSES, OTHER)
    code, out, err = call(path, root, "--method", METHOD)
    assert code == 0, err
    assert "names neither its classes nor its training set: they are taken in the published order of PanNuke" in out
    assert "The classes are reordered by name" in out
    strange = class_orders.folder(tmp_path / "strange", truth, ACCENTED, ACCENTED)
    code, _, err = call(path, strange, "--method", METHOD, results="none")
    assert code == 2 and "nothing says what its types 1, 2, … are" in err and ", ".join(ACCENTED) in err
    assert not list((tmp_path / "none").rglob("*.json"))
    words = ("--classes", class_map(tmp_path, **{str(k): name for k, name in enumerate(ACCENTED, 1)}))
    code, out, err = call(path, strange, "--method", METHOD, *words, results="none")
    assert code == 0 and "mapped by map.toml: 1 as Tumeur" in out, err


@pytest.mark.parametrize("names", [CLASSES[:4], (*CLASSES[:4], "Epithelium"), (*CLASSES, "Other")])
def test_fewer_more_and_other_names_are_refused_with_both_lists(call, tmp_path, names):
    method = class_orders.network(len(names))
    weights = class_orders.run_folder(tmp_path, method, names, dataset="mine")
    root = class_orders.folder(tmp_path / "data", class_orders.found(method), names, names)
    toml = root / "dataset.toml"
    toml.write_text(toml.read_text().replace(json.dumps(list(names)), json.dumps(CLASSES)))
    code, _, err = call(weights, root)
    sentence = f"expected the classes of the dataset mine ({', '.join(CLASSES)}), found {', '.join(names)}; say which"
    assert code == 2 and sentence in err and "--classes map.toml" in err and str(weights) in err
    assert not list((tmp_path / "results").rglob("*.json")), "nothing written"


def test_a_map_says_which_is_which_and_may_merge(call, tmp_path, method, truth):
    """Coarser data: two predicted classes are one there, and one is nothing."""
    coarse = ("immune", "tumour", "other")
    of = {"Neoplastic": "tumour", "Epithelial": "tumour", "Inflammatory": "Immune", "Connective": "other", "Dead": ""}
    weights = class_orders.run_folder(tmp_path, method, CLASSES)
    ids = np.array([0, *([*coarse, ""].index(of[name].lower()) + 1 for name in CLASSES)], np.uint8) % 4
    merged = [image.retyped(ids) for image in truth]
    root = class_orders.folder(tmp_path / "data", merged, coarse, coarse)
    code, out, err = call(weights, root, "--classes", class_map(tmp_path, **of))
    assert code == 0, err
    pairs = "Neoplastic as tumour, Inflammatory as immune, Connective as other, Dead as untyped, Epithelial as tumour"
    assert f"The classes are mapped by map.toml: {pairs}." in out
    (run,) = (path.parent for path in (tmp_path / "results").rglob("metrics.json"))
    stored = predictions.load(run / "predictions.npz", [0, 1, 2, 3], 0.25)
    assert [image.types.tolist() for image in stored] == [image.types.tolist() for image in merged]
    assert ",classes=" in run.name and finished(run).id.file in run.name
    assert told(tmp_path / "results")["classes"] == list(coarse)

    first = (run / "metrics.json").read_bytes()
    code, _, err = call(weights, root, "--classes", class_map(tmp_path, **(of | {"Dead": "other"})))
    assert code == 0 and "already done" not in err, "another map is another result"
    runs = sorted((tmp_path / "results").rglob("metrics.json"))
    assert len(runs) == 2 and first in [path.read_bytes() for path in runs]
    table = write_tables(tmp_path / "results", tmp_path / "tables")
    assert "Dead as untyped" in table and "Dead as other" in table


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[classes]\nNeoplasic = 'a'\n", "'Neoplasic' is no class of"),
        ("[classes]\nNeoplasic = 'a'\n", "Did you mean 'Neoplastic'?"),
        ("[classes]\nNeoplastic = 'Neoplastc'\n", "Did you mean 'Neoplastic'?"),
        ("[classes]\nNeoplastic = 'Dead'\n", "found none for Inflammatory, Connective, Dead, Epithelial; add it"),
        ("[classes]\nNeoplastic = 'Dead'\nneoplastic = ''\n", "expected each name once"),
        ("[classes]\nNeoplastic = 1\n", "expected 'Neoplastic' to be a class of the data in quotes, found 1"),
        ("[classes]\n", "expected a table [classes] of lines"),
        ("Neoplastic = 'Dead'\n", "expected a table [classes] of lines"),
        ("[classes", "is not readable TOML"),
    ],
)
def test_a_mistake_in_the_map_is_one_sentence(call, tmp_path, method, truth, content, says):
    weights = class_orders.run_folder(tmp_path, method, CLASSES)
    root = class_orders.folder(tmp_path / "data", truth, CLASSES, OTHER)
    (tmp_path / "map.toml").write_text(content)
    code, _, err = call(weights, root, "--classes", tmp_path / "map.toml")
    assert code == 2 and says in err and "map.toml" in err and "Traceback" not in err, err
    assert not list((tmp_path / "results").rglob("*.json"))


def test_both_forms_of_a_letter_and_capitals_are_one_name(call, tmp_path, method, truth):
    weights = class_orders.run_folder(tmp_path, method, [unicodedata.normalize("NFD", n) for n in ACCENTED])
    root = class_orders.folder(tmp_path / "data", truth, ACCENTED, ACCENTED[::-1])
    toml = root / "dataset.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("Tumeur", "TUMEUR"), encoding="utf-8")
    code, out, err = call(weights, root)
    assert code == 0 and "The classes are reordered by name" in out, err
    assert 0.1 < scores(tmp_path / "results")["cellvit"]["mPQ"] < 0.9


def evaluated(call, tmp_path, method, truth, classes=CLASSES):
    """The folder of a finished evaluation on a data set with these classes."""
    weights = class_orders.run_folder(tmp_path, method, CLASSES)
    root = class_orders.folder(tmp_path / "data", truth, CLASSES, classes)
    assert call(weights, root)[0] == 0
    (run,) = (path.parent for path in (tmp_path / "results").rglob("metrics.json"))
    return run


def imported(tmp_path, pred, root, *words, results="imports") -> int:
    line = ["import", "--name", "tool", "--pred", pred, "--dataset", "folder", "--data-root", root]
    line += ["--cache", tmp_path / "cache", "--results", tmp_path / results, *words]
    return main([str(word) for word in line])


def test_a_runs_predictions_are_imported_and_scored_by_name(call, tmp_path, capsys, method, truth):
    run = evaluated(call, tmp_path, method, truth)
    expected = scores(tmp_path / "results")
    root = class_orders.folder(tmp_path / "other", truth, CLASSES, OTHER)
    for pred in (run, run / "predictions.npz"):
        assert imported(tmp_path, pred, root) == 0
        assert "The classes are reordered by name" in capsys.readouterr().err
        stored = scores(tmp_path / "imports")
        assert stored["cellvit"] == pytest.approx(expected["cellvit"], nan_ok=True)
    assert "reordered by name" in write_tables(tmp_path / "imports", tmp_path / "tables")

    truths = prepare(dataset("folder", root), tmp_path / "cache", 1, progress=False).subset(1, "test")
    arrays = [truths[i].nuclei for i in range(len(truths))]
    np.savez(
        tmp_path / "t.npz",
        instances=np.stack([n.instances for n in arrays]),
        types=np.stack([n.pixel_types() for n in arrays]),
    )
    (tmp_path / "classes.toml").write_text(f"classes = {json.dumps(OTHER)}\nmpp = 0.25\n")
    line = ["score", "--true", tmp_path / "t.npz", "--pred", run, "--mpp", 0.25]
    line = [str(word) for word in line]
    assert main([*line, "--types", str(tmp_path / "classes.toml"), "--out", str(tmp_path / "scores")]) == 0
    assert "The classes are reordered by name" in capsys.readouterr().err
    again = json.loads((tmp_path / "scores/metrics.json").read_text())["cellvit"]
    for name in ("mPQ", *(f"F1_{name}" for name in CLASSES)):
        assert again[name] == pytest.approx(expected["cellvit"][name]), name
    assert main(line) == 0 and "they are compared by number; --types classes.toml names them" in capsys.readouterr().err


def test_predictions_of_other_classes_are_refused_unless_mapped(call, tmp_path, capsys, method, truth):
    run = evaluated(call, tmp_path, method, truth)
    coarse = ("a", "b", "c", "d", "e")
    root = class_orders.folder(tmp_path / "other", truth, coarse, coarse[::-1])
    assert imported(tmp_path, run, root) == 2
    assert f"expected the classes of the ground truth (e, d, c, b, a), found {', '.join(CLASSES)}" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "imports").exists() or not list((tmp_path / "imports").rglob("*.json"))
    of = class_map(tmp_path, **dict(zip(CLASSES, coarse)))
    assert imported(tmp_path, run, root, "--classes", of) == 0
    expected = scores(tmp_path / "results")["cellvit"]
    assert scores(tmp_path / "imports")["cellvit"]["mPQ"] == pytest.approx(expected["mPQ"])
    (tmp_path / "types.toml").write_text('[pred]\nNeoplastic = "a"\n')
    assert imported(tmp_path, run, root, "--classes", of, "--types", tmp_path / "types.toml") == 2
    assert "keep one of the two" in capsys.readouterr().err
    lines = "".join(f'{name} = "{letter}"\n' for name, letter in zip(CLASSES, coarse))
    (tmp_path / "types.toml").write_text(f"[pred]\n{lines}")
    assert imported(tmp_path, run, root, "--types", tmp_path / "types.toml", results="typed") == 0
    assert scores(tmp_path / "typed")["cellvit"]["mPQ"] == pytest.approx(expected["mPQ"])


def test_an_import_takes_another_order_of_classes_toml_for_that_of_the_ids(call, tmp_path, capsys, method, truth):
    run = evaluated(call, tmp_path, method, truth)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "p.npz").write_bytes((run / "predictions.npz").read_bytes())  # without a config.json that names types
    root = class_orders.folder(tmp_path / "other", truth, CLASSES, OTHER)
    assert imported(tmp_path, moved / "p.npz", root) == 0
    assert f"p.npz: nothing names its types, those of the dataset mine are named ({', '.join(OTHER)})" in (
        capsys.readouterr().err
    )
    (tmp_path / "types.toml").write_text(f"classes = {json.dumps(CLASSES)}\n")
    assert imported(tmp_path, moved / "p.npz", root, "--types", tmp_path / "types.toml") == 0
    err = capsys.readouterr().err
    assert "The classes are reordered by name" in err and "nothing names its types" not in err
    expected = scores(tmp_path / "results")["cellvit"]
    assert scores(tmp_path / "imports")["cellvit"]["mPQ"] == pytest.approx(expected["mPQ"])


def test_a_folder_data_set_as_ground_truth_names_its_classes(call, tmp_path, capsys, method, truth):
    """Once the numbers of the two sides were compared, whatever their names."""
    run = evaluated(call, tmp_path, method, truth)
    expected = scores(tmp_path / "results")["cellvit"]
    for i, kept in enumerate(predictions.load(run / "predictions.npz", [0, 1, 2, 3], 0.25)):
        tests = tmp_path / "tests"
        tests.mkdir(exist_ok=True)
        np.savez(tests / f"test{i}.npz", instances=kept.instances, types=kept.pixel_types())
    root = class_orders.folder(tmp_path / "other", truth, CLASSES, OTHER)
    for path in (*root.glob("*/train*"), *root.glob("*/val*")):
        path.unlink()
    (tmp_path / "types.toml").write_text(f"classes = {json.dumps(CLASSES)}\n")
    line = ["score", "--true", root, "--pred", tests, "--mpp", 0.25, "--types", tmp_path / "types.toml"]
    assert main([str(word) for word in [*line, "--out", tmp_path / "scores"]]) == 0
    assert f"{root}: The classes are reordered by name" in capsys.readouterr().err
    again = json.loads((tmp_path / "scores/metrics.json").read_text())["cellvit"]
    assert [again[f"F1_{name}"] for name in CLASSES] == pytest.approx([expected[f"F1_{name}"] for name in CLASSES])
    (tmp_path / "types.toml").write_text('classes = ["a", "b", "c", "d", "e"]\n')
    assert main(list(map(str, line))) == 2
    assert f"{root}: expected the classes of the ground truth (a, b, c, d, e), found Dead, " in capsys.readouterr().err


def test_a_run_is_stale_once_its_data_set_orders_or_names_its_classes_otherwise(tmp_path, capsys, truth):
    """Also where the data as they are now were not prepared; and its raw maps belong to the former order."""
    root = class_orders.folder(tmp_path / "data", truth, CLASSES, CLASSES)
    words = ["--dataset", "folder", "--data-root", root, "--preset", "debug", "--results", tmp_path / "results"]
    words += ["--cache", tmp_path / "cache", "--device", "cpu"]

    def called(command, *more):
        code = main([str(word) for word in (command, *words, *more)])
        return code, *capsys.readouterr()

    assert called("run", "--method", "classical")[0] == 0
    assert "done  mine classical@debug" in called("status", "--methods", "classical")[1]
    toml = root / "dataset.toml"
    for names in (OTHER, (*CLASSES[:4], "Epithelium")):
        toml.write_text(toml.read_text().replace(json.dumps(CLASSES), json.dumps(names)))
        stale = f"stale  mine classical@debug fold 1 seed 0  class names: {list(CLASSES)} -> {list(names)}"
        assert stale in called("status", "--methods", "classical")[1]
        assert main(["prepare", *map(str, words[:4]), "--cache", str(tmp_path / "cache")]) == 0
        assert "stale  mine classical@debug fold 1 seed 0  data: " in called("status", "--methods", "classical")[1]
        options = SimpleNamespace(run=tmp_path, dataset="folder", data_root=str(root), cache=tmp_path / "cache")
        with pytest.raises(InputError, match="was scored on other data than these"):
            postprocess.test_set(options, finished(next((tmp_path / "results").rglob("fold1-seed0"))))
        toml.write_text(toml.read_text().replace(json.dumps(names), json.dumps(CLASSES)))


def test_predict_says_whose_names_an_official_files_types_have(tmp_path, capsys, official, truth):
    images = class_orders.folder(tmp_path / "data", truth, CLASSES, CLASSES) / "images"
    words = ["--weights", official, "--method", METHOD, "--images", images / "test1.png", "--out", tmp_path / "out"]
    assert main(["predict", "--device", "cpu", "--window", "64", "--margin", "16", *map(str, words)]) == 0
    assert "names no classes: they are taken in the published order of PanNuke" in capsys.readouterr().err
    with open(tmp_path / "out/nuclei.csv") as handle:
        named = {row["type"] for row in csv.DictReader(handle)}
    assert named and named <= set(CLASSES)
