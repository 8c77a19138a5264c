"""`transfer`: trained on one data set, tested on others, end to end; what cannot be is one sentence before training."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei
from benchmark.data.registry import dataset
from benchmark.data.sources.pannuke import CLASSES
from benchmark.data.sources.synthetic import draw
from benchmark.data.store.prepare import prepare
from benchmark.results.collect import runs
from tests.support import class_orders, tiny_data
from tests.support.annotated_files import lizard
from tests.support.field_files import consep
from tests.support.shared import shared
from tests.support.tiny_data import TINY

SHORT = ("recipe.pretrain=0", "recipe.epochs=1", "recipe.samples=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of four patches of slides that belong to no fold of the drawn data, with three of their classes."""
    nuclei = [draw("Colon", slide, 0, size=class_orders.SIDE).nuclei for slide in range(3, 3 + class_orders.N)]
    plain = [Nuclei.from_labels(n.instances, np.minimum(n.types, 3), 0.25) for n in nuclei]
    return class_orders.folder(tmp_path_factory.mktemp("folder"), plain, CLASSES[:3], CLASSES[:3])


@pytest.fixture
def transfer(tmp_path, cache, capsys):
    """transfer(*words) -> (exit code, stdout, stderr) on the processor, at scale debug."""

    def call(*words, method="cellvta"):
        line = ["transfer", *(["--method", method] if method else []), "--preset", "debug", "--device", "cpu", *SHORT]
        line += ["--results", tmp_path / "results", "--reports", tmp_path / "reports", "--cache", cache, *words]
        code = main([str(word) for word in line])
        return code, *capsys.readouterr()

    return call


def table(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_drawn_images_to_a_folder(transfer, tmp_path, folder, cache, capsys):
    words = ("--train", TINY, "--test", TINY, f"folder:{folder}")
    code, out, err = transfer(*words)
    assert code == 0, err
    assert f"{TINY} -> mine: 0 of 4 test images are known to the training and left out. Overlap unknown" in err
    trained, tested = sorted(runs(tmp_path / "results"), key=lambda run: run.id.kind, reverse=True)
    assert (trained.id.kind, trained.id.dataset, tested.id.kind, tested.id.dataset) == (
        "main",
        TINY,
        "evaluated",
        "mine",
    )
    entry = tested.config["transfer"]
    assert entry["trained"] == {
        "dataset": TINY,
        "method": trained.id.method,
        "fold": 1,
        "seed": 0,
        "kind": "main",
    }
    assert entry["classes"] == list(CLASSES[:3]) == tested.config["classes"] and entry["seen_mpp"] is None
    assert entry["overlap"]["unknown"] == "mine names images, not their patients or slides"

    (place,) = (tmp_path / "reports/transfer").iterdir()
    assert {path.name for path in place.iterdir()} == {
        *(f"transfer-cellvit.{suffix}" for suffix in ("md", "tex", "csv")),
        *(f"transfer.{suffix}" for suffix in ("png", "pdf", "csv")),
    }
    lines = {(line["tested"], line["metric"]): line for line in table(place / "transfer-cellvit.csv")}
    for run, name in ((trained, TINY), (tested, "mine")):
        scores = run.metrics["protocols"]["cellvit"]
        for metric in ("bPQ", "mPQ", "F1"):
            text = lines[name, metric]["value"]
            assert text == ("" if scores[metric] is None else f"{scores[metric]:.10g}"), (name, metric)
    assert lines["mine", "bPQ"]["trained"] == TINY and lines["mine", "bPQ"]["images"] == "4"
    assert "Overlap unknown:" in out.replace("\n", " ") and "mPQ over Neoplastic, Inflammatory, Connective" in out

    before = (tested.folder / "metrics.json").stat().st_mtime_ns
    code, again, err = transfer(*words)
    assert (code, again) == (0, out) and err.count("already done") == 2
    assert (tested.folder / "metrics.json").stat().st_mtime_ns == before

    line = ["report", "--results", tmp_path / "results", "--reports", tmp_path / "reports", "--cache", cache]
    assert main([str(word) for word in line]) == 0
    page = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert f"Trained here, tested there: {trained.id.method}" in page and 'id="transfer0"' in page


def test_a_finer_copy_of_the_training_images_is_left_out_and_others_are_resampled(
    transfer, tmp_path, folder, cache, capsys
):
    """A folder at 0.125 µm/px: one image is a training image, enlarged by two."""
    source = dataset(TINY)
    seen = next(source.samples(1))
    fine = tmp_path / "fine"
    shutil.copytree(folder, fine)
    toml = fine / "dataset.toml"
    side = 2 * seen.image.shape[0]
    text = toml.read_text().replace("mpp = 0.25", "mpp = 0.125").replace("patch = 64", f"patch = {side}")
    toml.write_text(text.replace('"mine"', '"fine"'))
    np.save(fine / "images" / "test2.npy", seen.image.repeat(2, 0).repeat(2, 1))
    (fine / "images" / "test2.png").unlink()
    instances = seen.nuclei.instances.repeat(2, 0).repeat(2, 1)
    np.save(fine / "labels" / "test2.npy", instances)
    np.save(fine / "types" / "test2.npy", np.minimum(instances, 1).astype(np.uint8))
    table_of = fine / "images.csv"
    table_of.write_text(table_of.read_text().replace("test2.png", "test2.npy"))
    code, out, err = transfer("--train", TINY, "--test", f"folder:{fine}")
    assert code == 0, err
    assert "1 of 4 test images is known to the training and left out (0 by name, 1 by pixels)" in err
    assert "of 0.125 µm/px, are resampled to the 0.25 µm/px of the training" in err
    (run,) = [run for run in runs(tmp_path / "results") if run.id.kind == "evaluated"]
    assert run.metrics["n_images"] == 3 and run.metrics["identity"]["left out"] == [2]
    assert run.metrics["identity"]["seen mpp"] == 0.25 and run.config["transfer"]["resampling"] == "bilinear-nearest"
    assert "test2" not in list(run.records().images["image_id"]) and run.config["mpp"] == 0.125
    assert (run.records().images["height"] == side).all(), "matched in the truth's pixels"
    assert "Left out for overlap:" in out and "1 of 4 images" in out.replace("\n", " ")

    # `evaluate` has no training images to look at, and tests all four
    (trained,) = [run for run in runs(tmp_path / "results") if run.id.kind == "main"]
    line = ["evaluate", "--weights", trained.folder, "--dataset", "folder", "--data-root", fine, "--device", "cpu"]
    line += ["--results", tmp_path / "results", "--cache", cache]
    assert main([str(word) for word in line]) == 0, capsys.readouterr().err
    assert "_stale" not in capsys.readouterr().err and not (tmp_path / "results/_stale").exists()
    both = [run for run in runs(tmp_path / "results") if run.id.kind == "evaluated"]
    assert sorted(run.metrics["n_images"] for run in both) == [3, 4]
    code, again, err = transfer("--train", TINY, "--test", f"folder:{fine}")
    assert code == 0 and again == out and err.count("already done") == 2, "the filtered test still stands, and counts"


def test_transfer_says_of_a_stored_test_what_evaluate_did_not_know(transfer, tmp_path, folder, cache, capsys):
    """No image is known to the training, so that both are one result; the matrix went on calling it not looked into."""
    assert transfer("--train", TINY, "--test", f"folder:{folder}")[0] == 0
    (first,) = [run for run in runs(tmp_path / "results") if run.id.kind == "evaluated"]
    (trained,) = [run for run in runs(tmp_path / "results") if run.id.kind == "main"]
    scores, shown = first.metrics["protocols"], (first.folder / "config.json").read_bytes()
    shutil.rmtree(first.folder)
    line = ["evaluate", "--weights", trained.folder, "--dataset", "folder", "--data-root", folder, "--device", "cpu"]
    line += ["--results", tmp_path / "results", "--cache", cache]
    assert main([str(word) for word in line]) == 0
    capsys.readouterr()
    assert "not looked into" in (first.folder / "card.md").read_text(encoding="utf-8")
    code, _, err = transfer("--train", TINY, "--test", f"folder:{folder}")
    assert code == 0 and err.count("already done") == 2
    (run,) = [run for run in runs(tmp_path / "results") if run.id.kind == "evaluated"]
    assert (run.folder / "config.json").read_bytes() == shown and run.metrics["protocols"] == scores
    assert "not looked into" not in (run.folder / "card.md").read_text(encoding="utf-8")
    assert "Left out for overlap: none. Overlap unknown" in (
        next((tmp_path / "reports/transfer").rglob("*.md")).read_text(encoding="utf-8")
    )
    assert main(["verify", "--results", str(tmp_path / "results")]) == 0, capsys.readouterr()


def test_real_images_of_two_sets(transfer, tmp_path, once):
    """The parts of CoNSeP and MoNuSeg in PanNuke's layout, the one without types."""
    root = shared("data/pannuke_like")
    parts = once("pannuke_parts", lambda place: tiny_data.pannuke_parts(root, place))
    names = {name: f"pannuke@name={name.lower()}_part:{parts / name}" for name in ("MoNuSeg", "CoNSeP")}
    code, out, err = transfer("--train", names["MoNuSeg"], "--test", *names.values())
    assert code == 0, err
    assert "0 of 42 test images are known to the training and left out." in err and "unknown" not in out
    assert "monuseg_part → consep_part: 1 run, 42 test images; the training saw no types, hence no mPQ" in out
    (run,) = [run for run in runs(tmp_path / "results") if run.id.kind == "evaluated"]
    scores = run.metrics["protocols"]["cellvit"]
    assert run.metrics["n_images"] == 42 and scores["mPQ"] is None and scores["bPQ"] is not None
    assert run.config["transfer"]["classes"] is None


def bad(tmp_path, folder):
    other = shutil.copytree(folder, tmp_path / "other")
    of_lizard, of_consep = lizard(tmp_path / "lizard"), consep(tmp_path / "consep")
    return {
        "no method": (("--train", TINY, "--test", f"folder:{folder}"), None, "--method is missing"),
        "no name": (("--train", TINY, "--test", f":{folder}"), "cellvta", "names no data set; expected a name such as"),
        "nothing there": (("--train", TINY, "--test", "folder:/nowhere/at/all"), "cellvta", "/nowhere/at/all"),
        "itself alone": (("--train", TINY, "--test", TINY), "cellvta", "name the same data set alone"),
        "one name twice": (
            ("--train", TINY, "--test", f"folder:{folder}", f"folder:{other}"),
            "cellvta",
            "two data sets go by the name 'mine'",
        ),
        "nothing to train": (("--train", TINY, "--test", f"folder:{folder}"), "classical", "trains nothing"),
        # data that are not there would be the error of whoever prepares them first
        "no weights": (
            ("--train", f"pannuke:{tmp_path}", "--test", f"folder:{folder}"),
            "hovernet@matched",
            "fold 1 seed 0 cannot run here: no weights given for 'resnet50'",
        ),
        "no such fold": (("--train", TINY, "--test", f"folder:{folder}", "--test-fold", "4"), "cellvta", "FOLD=4"),
        "overlap": (
            ("--train", f"lizard:{of_lizard}", "--test", f"consep:{of_consep}", "--fold", "2"),
            "cellvta",
            "this overlap cannot be removed",
        ),
    }


BAD = ("no method", "no name", "nothing there", "itself alone", "one name twice", "nothing to train", "overlap")


@pytest.mark.parametrize("name", [*BAD, "no weights", "no such fold"])
def test_bad_input_is_one_sentence_before_anything_is_trained(name, transfer, tmp_path, folder):
    words, method, says = bad(tmp_path, folder)[name]
    code, _, err = transfer(*words, method=method)
    assert code == 2 and says in err, err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [err.splitlines()[-1]]
    assert not list((tmp_path / "results").rglob("*.json")), "nothing trained"


def test_evaluate_alone_refuses_what_only_the_training_images_could_tell(tmp_path, capsys):
    """Weights of CoNIC on Lizard: `transfer` looks at what was trained on, `evaluate` has the weights alone."""
    method = class_orders.network(6, 1)
    weights = class_orders.run_folder(tmp_path, method, dataset("lizard", lizard(tmp_path / "d")).classes, 1, "conic")
    line = ["evaluate", "--weights", weights, "--dataset", "lizard", "--data-root", tmp_path / "d", "--device", "cpu"]
    line += ["--out", tmp_path / "results", "--cache", tmp_path / "cache"]
    assert main([str(word) for word in line]) == 2
    err = capsys.readouterr().err
    assert "trained on conic, which holds images of lizard" in err and not list((tmp_path / "results").rglob("*"))
    again = class_orders.run_folder(tmp_path / "b", method, dataset("lizard", tmp_path / "d").classes, 1, "consep")
    line[2] = again
    assert main([str(word) for word in line]) == 0, capsys.readouterr().err
    assert "1 of 2 test images is known to the training and left out (1 by name, 0 by pixels)" in (
        capsys.readouterr().out
    )
    (run,) = runs(tmp_path / "results")
    assert run.metrics["n_images"] == 1 and list(run.records().images["image_id"]) == ["glas_4"]
    prepared = prepare(dataset("lizard", tmp_path / "d"), tmp_path / "cache", 1, progress=False)
    assert prepared.subset(1, "test").image_ids == ["consep_1", "glas_4"]
