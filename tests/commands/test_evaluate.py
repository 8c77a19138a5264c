"""`evaluate`: a file of weights on a fold, stored as a run of its own kind, its values beside the published ones."""

import json

import pytest

from benchmark.cli import main
from benchmark.data.sources.pannuke import CLASSES
from benchmark.metrics.records import Records
from benchmark.report.render.table import markdown
from benchmark.report.tables import beside, published
from benchmark.report.write import write_tables
from benchmark.results import collect
from benchmark.results.card import card
from benchmark.results.manifest import digest
from benchmark.results.run_folder import RunFolder
from benchmark.results.run_id import RunId, file_tag
from tests.support import tiny_data
from tests.support.official_files import built, config, published_state, save_cellvit, save_hovernet
from tests.support.tiny_data import TINY

METHOD = "cellvta@debug"


@pytest.fixture(scope="module")
def pannuke(tmp_path_factory):
    """PanNuke in miniature: 5 images a fold, 32 px."""
    return tiny_data.pannuke(tmp_path_factory.mktemp("pannuke"))


@pytest.fixture
def call(tmp_path, pannuke, cache, capsys):
    """call(file, *words) -> (exit code, stdout, stderr) of `evaluate` on the miniature PanNuke."""

    def evaluate(
        path, *words, data=("--dataset", "pannuke", "--data-root", str(pannuke)), results=tmp_path / "results"
    ):
        line = ["evaluate", "--weights", str(path), *data, "--out", str(results)]
        code = main([*line, "--cache", str(cache), "--device", "cpu", *words])
        return code, *capsys.readouterr()

    return evaluate


def cellvta_file(path, settings=None, seed=1):
    return save_cellvit(path, published_state(built(METHOD, seed=seed)), "CellViTUNIAdapter", settings)


def test_outputs_that_are_not_finite_are_an_error_that_names_the_image(call, tmp_path):
    """Finite weights that overflow: once a row of F1 0.0000."""
    state = published_state(built(METHOD, seed=1))
    state = {k: v * 1e30 if v.is_floating_point() and v.ndim == 4 else v for k, v in state.items()}
    path = save_cellvit(tmp_path / "CellVTA_UNI_pannuke_split1.pth", state, "CellViTUNIAdapter")
    code, _, err = call(path, "--method", METHOD)
    assert code == 2 and "Traceback" not in err, err
    assert "image 0 ('" in err and "expected finite outputs of the method, found NaN or infinity in '" in err


@pytest.mark.parametrize("std", [[0, 0, 0], [0.5, float("nan"), 0.5], [0.5, -0.5, 0.5], [1e-60] * 3, [0.5, 0.5], "0.5"])
def test_normalisation_that_divides_by_nothing_is_refused(call, tmp_path, std):
    path = cellvta_file(tmp_path / "a.pth", config(**{"transformations.normalize.std": std}))
    code, _, err = call(path, "--method", METHOD)
    assert code == 2 and "Traceback" not in err
    assert f"{path}: expected normalize.std of its configuration to be three finite numbers above 0, found" in err


@pytest.mark.parametrize("mean", [[0, float("inf"), 0], [0.5, None, 0.5], [1e60, 0, 0]])
def test_means_that_are_not_finite_are_refused(call, tmp_path, mean):
    path = cellvta_file(tmp_path / "a.pth", config(**{"transformations.normalize.mean": mean}))
    code, _, err = call(path, "--method", METHOD)
    assert code == 2 and "expected normalize.mean of its configuration to be three finite numbers, found" in err


def test_evaluates_stores_and_prints(call, tmp_path):
    path = cellvta_file(tmp_path / "CellVTA_UNI_pannuke_split1.pth")
    code, out, err = call(path, "--method", METHOD)
    assert code == 0, err
    folder = tmp_path / "results/pannuke/cellvta@debug+official" / file_tag(f"fold1-{path.name}", digest(path))
    names = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    assert names >= {"config.json", "metrics.json", "provenance.json", "cost.json", "predictions.npz"}
    assert "weights.safetensors" not in names and "log.jsonl" not in names
    stored, told = (json.loads((folder / f"{n}.json").read_text()) for n in ("metrics", "config"))
    assert stored["n_images"] == 5 and told["kind"] == "official" and told["recipe"] == {}
    assert told["file"]["name"] == path.name and len(told["file"]["sha256"]) == 64 and told["file"]["split"] == 1
    (line,) = [line for line in out.splitlines() if line.startswith("| bPQ ")]
    assert line.split("|")[2].strip() == f"{stored['protocols']['cellvit']['bPQ']:.4f}"
    assert "Published: none" in out and told["file"]["sha256"][:12] in out and "not trained here" in out
    began = (folder / "metrics.json").stat().st_mtime_ns
    code, again, err = call(path, "--method", METHOD)
    assert (code, again) == (0, out) and "already done" in err
    assert (folder / "metrics.json").stat().st_mtime_ns == began

    (run,) = collect.runs(tmp_path / "results")
    assert run.id == RunId.of(folder) and run.id.kind == "official"
    text = (folder / "card.md").read_text()
    assert "licence of the file: not recorded" in text and "licence: `CC BY-NC-SA 4.0`" in text and text == card(run)
    table = write_tables(tmp_path / "results", tmp_path / "reports")
    assert "official weights, not trained here" in table and "CellVTA_UNI_pannuke_split*.pth" in table
    assert told["file"]["sha256"][:12] in table


def test_splits_of_one_model_are_one_row(call, tmp_path):
    for fold, (train, val) in {1: (0, 1), 2: (1, 0)}.items():
        path = cellvta_file(tmp_path / f"CellVTA_UNI_pannuke_split{fold}.pth", config(train, val))
        assert call(path, "--method", METHOD, "--fold", str(fold))[0] == 0
    table = write_tables(tmp_path / "results", tmp_path / "reports")
    rows = [line for line in table.splitlines() if line.startswith("| cellvta") and "CellVTA_UNI" in line]
    assert rows and all("split*.pth" in row and row.rstrip(" |").endswith("2/2") for row in rows)


def test_another_file_of_the_same_name_keeps_both_results(call, tmp_path):
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        path = cellvta_file(tmp_path / str(seed) / "CellVTA_UNI_pannuke_split1.pth", seed=seed)
        code, _, err = call(path, "--method", METHOD)
        assert code == 0 and "moved" not in err, err
    assert len(collect.runs(tmp_path / "results")) == 2
    table = write_tables(tmp_path / "results", tmp_path / "reports")
    rows = [line for line in table.splitlines() if line.startswith("| cellvta") and line.rstrip(" |").endswith("1/1")]
    assert len(rows) == 4, "two rows, in the main table and in that of costs"


def test_precision_is_a_setting(call, tmp_path):
    path = cellvta_file(tmp_path / "CellVTA_UNI_pannuke_split1.pth")
    plain = call(path, "--method", METHOD)
    chosen = call(path, "--method", f"{METHOD},recipe.precision=bf16")
    assert plain[0] == chosen[0] == 0, chosen[2]
    assert {run.id.method for run in collect.runs(tmp_path / "results")} == {METHOD, f"{METHOD},recipe.precision=bf16"}
    assert "Published: none for these settings (precision bf16)" in chosen[1]


def test_file_of_another_fold(call, tmp_path):
    path = cellvta_file(tmp_path / "model_best.pth", config(1, 0))
    code, _, err = call(path, "--method", METHOD, "--fold", "3")
    assert code == 2 and "says split 2, FOLD=3 was asked for; it has seen fold 1, the test fold of FOLD=3" in err
    assert err.count("\n") == 1 and not list((tmp_path / "results").rglob("*.json"))
    code, out, _ = call(path, "--method", METHOD, "--fold", "3", "--any-fold")
    assert code == 0 and "Evaluated all the same: its configuration says split 2" in out
    (folder,) = (tmp_path / "results/pannuke/cellvta@debug+official").iterdir()
    assert folder.name.startswith("fold3-model_best-")  # its name alone does not identify it


BAD = {
    "other types": (["--dataset", "synthetic@patches=2"], "is cellvta, 5 types"),
    "other method": (["--method", "hovernet"], "but METHOD is hovernet; use METHOD=cellvta"),
    "misspelt method": (["--method", "celvta"], "Did you mean 'cellvta'"),
    "no such row": (["--method", "cellvta@papre"], "Did you mean 'paper'"),
    "other row": (["--method", "cellvta@debug,interactions=2"], "are unexpected"),
    "row not told": ([], "does not fit this cellvta"),
    "fold": (["--method", METHOD, "--fold", "4"], "FOLD=4"),
    "no data": (["--method", METHOD, "--data-root", "/nowhere/at/all"], "/nowhere/at/all"),
    "override": (["--method", METHOD, "recipe.precison=fp32"], "Did you mean 'precision'"),
    "of training": (
        ["--method", METHOD, "recipe.epochs=4", "recipe.crop=32"],
        "recipe.epochs, recipe.crop: of no effect",
    ),
    "of the loader": (["--method", METHOD, "recipe.workers=1"], "recipe.workers: of no effect"),
    "of training, in METHOD": (["--method", f"{METHOD},recipe.optimiser.lr=0.1"], "recipe.optimiser.lr: of no effect"),
    "tiles of x40": (["--method", METHOD, "recipe.tiling=conic40"], "as x40 tiles, those of pannuke have 0.25 µm/px"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, call, tmp_path):
    words, says = BAD[name]
    classes = 7 if name == "other types" else 5
    state = published_state(built(METHOD, classes))
    path = save_cellvit(tmp_path / "file.pth", state, "CellViTUNIAdapter")
    code, _, err = call(path, *words)
    assert code == 2 and says.replace("5 types", f"{classes} types") in err, err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [err.splitlines()[-1]]
    assert not list((tmp_path / "results").rglob("*.json")), "nothing half-written"


def test_hovernet_file_without_a_fold(call, tmp_path):
    state = published_state(built("hovernet@debug,dense=8", seed=1))
    path = save_hovernet(tmp_path / "net_epoch=50.tar", state, "converted")
    code, out, err = call(path, "--method", "hovernet@debug,dense=8")
    assert code == 0, err
    assert "may have seen the test images" in out and "sha256" in out
    (folder,) = (tmp_path / "results/pannuke/hovernet@debug,dense=8+official").iterdir()
    assert folder.name.startswith("fold1-net_epoch=50-")


def test_weights_without_types(call, tmp_path):
    """They find nuclei all the same; what needs types has no value."""
    spec = "hovernet@debug,dense=8"
    path = save_hovernet(tmp_path / "notype_pytorch.tar", published_state(built(spec, classes=0, seed=1)))
    code, out, err = call(path, "--method", spec)
    assert code == 0, err
    (metrics,) = (tmp_path / "results").rglob("metrics.json")
    scores = json.loads(metrics.read_text())["protocols"]["cellvit"]
    assert scores["mPQ"] is None and scores["bPQ"] is not None and "name no types" in out
    assert not Records.load(metrics.parent).images["pred_typed"].any(), "else nuclei without a type would not count"


def test_weights_of_a_run_give_its_values_again(call, command_here, tmp_path):
    results = tmp_path / "runs"
    done = command_here(
        "run", "--method", METHOD, "recipe.pretrain=0", "recipe.epochs=1", "recipe.samples=4", results=results
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (results / TINY).glob(f"{METHOD},*/fold1-seed0")
    code, _, err = call(folder / "weights.safetensors", data=("--dataset", TINY))
    assert code == 0, err
    (again,) = (tmp_path / "results" / TINY / f"{METHOD}+evaluated").iterdir()
    first, second = (json.loads((f / "metrics.json").read_text())["protocols"] for f in (folder, again))
    assert first == second
    code, _, err = call(folder / "weights.safetensors", "--fold", "2", data=("--dataset", TINY))
    assert code == 2 and "its run was on FOLD=1, FOLD=2 was asked for" in err


def test_published_values_stand_beside(tmp_path):
    """The comparison itself, on a stored result of the published model: no network is run."""
    said = published.values("cellvta", "paper", "pannuke", 1, "cellvit")
    told = {
        "name": "cellvta",
        "row": "paper",
        "method": "cellvta@paper",
        "dataset": "pannuke",
        "fold": 1,
        "classes": list(CLASSES),
        "file": {"name": "a.pth", "sha256": "0" * 64, "layout": "plain", "split": 1, "remarks": []},
    }
    values = {"version": 1, "bPQ": said["bPQ"] + 0.01, "mPQ": None, "PQ_Dead": said["PQ_Dead"]}
    for name, content in (("config", told), ("metrics", {"n_images": 2722, "protocols": {"cellvit": values}})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    lines = {
        line.split("|")[1].strip(): line
        for line in markdown(beside.beside(RunFolder(tmp_path))).splitlines()
        if line.startswith("| ")
    }
    assert [c.strip() for c in lines["bPQ"].split("|")[2:5]] == [
        f"{values['bPQ']:.4f}",
        f"{said['bPQ']:.4f}",
        "+0.0100",
    ]
    assert [c.strip() for c in lines["mPQ"].split("|")[2:5]] == ["–", "0.5040", "–"]
    assert "+0.0000" in lines["PQ_Dead"]
    (tmp_path / "metrics.json").write_text(json.dumps({"n_images": 87, "protocols": {"cellvit": values}}))
    assert "of 2722 images, these of 87: not the same test set" in " ".join(
        markdown(beside.beside(RunFolder(tmp_path))).split()
    )
    told["file"]["split"] = 2
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert "Published: none" in markdown(beside.beside(RunFolder(tmp_path)))


def test_folders_of_every_kind_are_read_back(tmp_path):
    ids = [RunId("d", "m@small", 1, 3), RunId("d", "m@paper", 2, 0, "published")]
    ids += [RunId("d", "m@paper", 3, 0, kind, "a=b-1f") for kind in ("official", "evaluated")]
    assert [RunId.of(i.folder(tmp_path)) for i in ids] == ids
    assert len({str(i) for i in ids}) == len({i.folder(tmp_path) for i in ids}) == 4
    with pytest.raises(ValueError, match="expected fold<k>-seed<s>"):
        RunId.of(tmp_path / "d/m/fold1-a")
    assert file_tag("net epoch=5/0.tar", "abcdef0123") == "net_epoch=5_0-abcdef01"
    assert file_tag("CellVTA_split1.pth", "abcdef0123") == "CellVTA_split1-abcdef01"
