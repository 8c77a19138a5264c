"""`reproduce`: official files found by their content, evaluated, and set beside a published table made for them."""

import csv
import itertools
import json
import shutil

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.report.papers import paper as papers
from benchmark.report.tables.published import COLUMNS
from benchmark.report.write import write_tables
from benchmark.results import collect
from tests.support import tiny_data
from tests.support.official_files import built, config, published_state, save_cellvit, save_hovernet

FOLDS = {1: (0, 1), 2: (1, 0), 3: (2, 1)}  # split -> folds to train and validate on, counted from 0
METRICS = {"images": ["bPQ", "mPQ"], "tissues": ["tissue_mean/bPQ", "tissue_mean/mPQ"]}
TOLERANCE = {"weights": 0.002, "weights_reason": "rounding", "trained": 0.01, "trained_reason": "seeds"}


def toml(path, dataset="pannuke", splits=(1, 2, 3), metrics=METRICS, method="cellvta", more=None):
    """A paper on the debug row, with figures beside it; `more` replaces the tolerance."""
    lines = [f'title = "Me on {dataset}"', f'method = "{method}"', f'dataset = "{dataset}"', f"splits = {list(splits)}"]
    lines += [f'protocol = "{"cellvta_conic" if dataset == "conic" else "cellvit"}"', "magnification = 40"]
    lines += ["pretrained = false", 'published = "figures.csv"']
    lines += [more] if more else []
    lines += ["[metrics]", *(f"{average} = {json.dumps(names)}" for average, names in metrics.items())]
    lines += [] if more else ["[tolerance]", *(f"{key} = {json.dumps(value)}" for key, value in TOLERANCE.items())]
    for k in splits:
        lines += ["[[files]]", 'row = "debug"', f"split = {k}", f'name = "me_split{k}.pth"']
        lines += ['published_at = "example.org/me"', 'licence = "CC0"', f'size = "about {k} MB"']
    path.write_text("\n".join(lines) + "\n")


def table(path, figures, method="cellvta", dataset="pannuke", protocol="cellvit", images=8):
    """The published table: {(split, average, metric): value}, and the number of test images of each split."""
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for (split, average, metric), value in figures.items():
            writer.writerow([method, "debug", dataset, split, protocol, average, metric, value, "made", ""])
        for split in {split for split, _, _ in figures} - {"all"}:
            writer.writerow([method, "debug", dataset, split, protocol, "count", "n_images", images, "made", ""])


def cellvta_file(path, split, seed):
    return save_cellvit(
        path, published_state(built("cellvta@debug", seed=seed)), "CellViTUNIAdapter", config(*FOLDS[split])
    )


class World:
    """Three official files on PanNuke in miniature, evaluated once; every call has a paper and a table of its own."""

    def __init__(self, root, cache):
        self.root, self.cache = root, cache
        self.data = tiny_data.pannuke(root / "data", n=8)
        self.weights, self.results = root / "weights", root / "results"
        self.weights.mkdir()
        for k in FOLDS:
            cellvta_file(self.weights / f"me_split{k}.pth", k, seed=k)

    def call(self, paper, *words, weights=None, results=None):
        line = ["reproduce", str(paper), "--data-root", str(self.data), "--results", str(results or self.results)]
        line += ["--cache", str(self.cache), "--device", "cpu"]
        return main([*line, *(["--weights", str(weights or self.weights)] if weights != "" else []), *map(str, words)])

    def measured(self):
        """{(split, average, metric): value} of the stored results, and of the mean over the splits."""
        scores = {run.id.split: run.metrics["protocols"]["cellvit"] for run in collect.runs(self.results)}
        names = [(average, metric) for average, metrics in METRICS.items() for metric in metrics]
        out = {(str(k), *name): scores[k][name[1]] for k in FOLDS for name in names}
        return out | {("all", *name): np.mean([scores[k][name[1]] for k in FOLDS]) for name in names}


@pytest.fixture(scope="module")
def world(tmp_path_factory, cache):
    miniature = World(tmp_path_factory.mktemp("reproduce"), cache)
    toml(miniature.root / "first.toml")
    table(miniature.root / "figures.csv", {("1", "images", "bPQ"): 0.5})
    assert miniature.call(miniature.root / "first.toml") in (1, 2)
    return miniature


@pytest.fixture
def paper(tmp_path, world):
    """paper({(split, average, metric): published less measured}) -> the file of a paper; all else is equal."""
    number = itertools.count()

    def make(changes=None, images=8, **more):
        folder = tmp_path / f"paper {next(number)}"
        folder.mkdir()
        toml(folder / "me.toml", **more)
        figures = {key: value + (changes or {}).get(key, 0) for key, value in world.measured().items()}
        table(folder / "figures.csv", figures, images=images)
        return folder / "me.toml"

    return make


def rows(text):
    """Cells of the lines of the table of figures."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if len(cells) == 10 and cells[1] != "split"]


def test_figures_within_the_tolerance(world, paper, tmp_path, capsys):
    before = {run.folder: (run.folder / "metrics.json").stat().st_mtime_ns for run in collect.runs(world.results)}
    code = world.call(paper({("1", "images", "bPQ"): 0.0015, ("all", "tissues", "tissue_mean/mPQ"): -0.0015}))
    out, err = capsys.readouterr()
    assert code == 0, err
    cells = rows(out)
    assert len(cells) == 16 and {row[-1] for row in cells} == {"within"} and "16 of the paper's 16 figures" in out
    (first,) = [row for row in cells if row[1:4] == ["1", "images", "bPQ"]]
    assert first[7] == "-0.0015" and first[8] == "0.002" and first[0].startswith("cellvta@debug: me_split1.pth, sha256")
    low, high = (float(text) for text in first[6].strip("[]").split(","))
    assert low <= float(first[5]) <= high and float(first[5]) == pytest.approx(
        world.measured()["1", "images", "bPQ"], abs=1e-4
    )
    assert "rounding" in out and "test images" in out and err.count("already done") == 3
    after = {run.folder: (run.folder / "metrics.json").stat().st_mtime_ns for run in collect.runs(world.results)}
    assert after == before and len(after) == 3, "finished results are used again"
    assert {run.id.kind for run in collect.runs(world.results)} == {"official"}, "ordinary results of their kind"
    assert "official weights, not trained here" in write_tables(world.results, tmp_path / "reports")


@pytest.mark.parametrize("key", [("2", "images", "mPQ"), ("all", "images", "bPQ"), ("3", "tissues", "tissue_mean/bPQ")])
def test_one_figure_outside_the_tolerance(world, paper, capsys, key):
    assert world.call(paper({key: -0.0025})) == 1
    cells = rows(capsys.readouterr().out)
    assert [row[1:4] for row in cells if row[-1] == "OUTSIDE"] == [list(key)]


def test_a_missing_file(world, paper, tmp_path, capsys):
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(world.weights / "me_split1.pth", part)
    assert world.call(paper(), weights=part) == 2
    out, err = capsys.readouterr()
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    for k in (2, 3):
        where = f"file me_split{k}.pth; published at example.org/me; licence CC0; size about {k} MB"
        assert f"missing in {part}: cellvta@debug, split {k} ({where})" in sentence
    assert [row[-1] for row in rows(out)] == ["within"] * 4, "what was found is evaluated"
    assert "4 of the paper's 16 figures" in out and "the mean over the splits, which the paper prints, is not" in out
    files = [line for line in out.splitlines() if "example.org/me" in line]
    assert [line.split("|")[-2].strip() for line in files] == ["me_split1.pth", "missing", "missing"]
    assert world.call(paper(), "--folds", 1, weights=part) == 0, "of one split nothing is missing"
    assert world.call(paper({("1", "images", "bPQ"): 0.1}), weights=part) == 1, "a figure outside comes before a file"
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("missing: ")]
    assert len(lines) == 2 and "cellvta@debug, split 2" in lines[0], "which is named all the same"


def test_files_are_known_by_their_content(world, paper, tmp_path, capsys):
    odd = tmp_path / "odd"
    (odd / "below").mkdir(parents=True)
    for k in FOLDS:
        shutil.copy(world.weights / f"me_split{k}.pth", odd / f"me_split{k % 3 + 1}.pth")  # names that mislead
    shutil.copy(world.weights / "me_split1.pth", odd / "zz.bin")
    (odd / "LICENCE.txt").write_text("CC0")
    save_hovernet(odd / "net.tar", published_state(built("hovernet@debug,dense=8", seed=1)), "converted")
    state = published_state(built("cellvta@debug", seed=5))
    save_cellvit(odd / "x20.pth", state, "CellViTUNIAdapter", config(0, 1, **{"data.magnification": 20}))
    save_cellvit(odd / "all.pth", state, "CellViTUNIAdapter", config([0, 1, 2], [0, 1, 2]))
    assert world.call(paper(), weights=odd, results=tmp_path / "results") == 0
    out, _ = capsys.readouterr()
    assert {(row[1], row[0].split(": ")[1].split(",")[0]) for row in rows(out) if row[1] != "all"} == {
        ("1", "me_split2.pth"), ("2", "me_split3.pth"), ("3", "me_split1.pth"),
    }  # fmt: skip
    assert "zz.bin is not used: it is the same file as me_split2.pth" in out
    assert "LICENCE.txt is not used: " in out and "below is not used: it is a folder" in out
    assert "net.tar is not used: it is hovernet" in out and "x20.pth is not used: it was trained at x20" in out
    assert "all.pth is not used: its configuration says training and validation on folds 1, 2, 3" in out


def test_a_file_of_an_unknown_split_has_no_verdict(world, paper, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    state = published_state(built("cellvta@debug", seed=1))
    save_cellvit(alone / "main.pth", state, "CellViTUNIAdapter", {"data.dataset": "PanNuke"})
    assert world.call(paper(), weights=alone, results=tmp_path / "results") == 2
    out, err = capsys.readouterr()
    cells = rows(out)
    assert len(cells) == 4 and {(row[1], row[-1]) for row in cells} == {("1", "no verdict")}
    assert float(cells[0][5]) == pytest.approx(world.measured()["1", "images", "bPQ"], abs=1e-4), (
        "measured all the same"
    )
    assert "which images the file was trained on is not known" in err and "me_split1.pth" in err
    assert "0 of the paper's 16 figures" in out and "main.pth: its split is not known" in out


def test_other_test_images_give_no_verdict(world, paper, capsys):
    assert world.call(paper(images=2722)) == 2
    out, err = capsys.readouterr()
    assert {row[-1] for row in rows(out)} == {"no verdict"}
    assert "not the published test images: 8 instead of 2722 on split 1" in err


def test_a_reservation_is_no_verdict(world, paper, capsys):
    assert world.call(paper(more='reservation = "their images are others"')) == 2
    out, err = capsys.readouterr()
    assert {row[-1] for row in rows(out)} == {"no verdict"} and "their images are others" in err


def test_a_damaged_file_leaves_the_others(world, paper, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(world.weights, damaged)
    state = {k: v * 1e30 if v.is_floating_point() and v.ndim == 4 else v for k, v in built_state(2).items()}
    save_cellvit(damaged / "me_split2.pth", state, "CellViTUNIAdapter", config(*FOLDS[2]))
    (damaged / "me_split3.pth").write_bytes((damaged / "me_split3.pth").read_bytes()[:1000])
    assert world.call(paper(), weights=damaged, results=tmp_path / "results") == 2
    out, err = capsys.readouterr()
    assert {(row[1], row[-1]) for row in rows(out)} == {("1", "within")}
    assert "could not be evaluated" in err and "expected finite outputs" in err, "found on evaluating it"
    assert "me_split3.pth is not used: " in out and "split 3 (file me_split3.pth" in err, "found on reading it"


def built_state(seed):
    return published_state(built("cellvta@debug", seed=seed))


def test_conic_has_one_split_and_clusters_of_source_images(world, tmp_path, capsys):
    slides = [f"s_{k}-{i:04d}" for k in range(30) for i in range(2)]
    data = tiny_data.conic(tmp_path / "conic", names=slides, side=32)
    weights = tmp_path / "w"
    weights.mkdir()
    state = published_state(built("cellvta@debug", classes=6, tissues=1, seed=1))
    save_cellvit(weights / "conic_model.pth", state, "CellViTUNIAdapter", {"data.dataset": "CoNIC"})
    toml(tmp_path / "me.toml", "conic", [1], {"images": ["bPQ"]})
    words = (tmp_path / "me.toml", "--data-root", data)
    figures, about = tmp_path / "figures.csv", {"dataset": "conic", "protocol": "cellvta_conic", "images": 12}
    table(figures, {("1", "images", "bPQ"): 2.0}, **about)
    assert world.call(*words, weights=weights, results=tmp_path / "results") == 1
    (run,) = collect.runs(tmp_path / "results")
    table(figures, {("1", "images", "bPQ"): run.metrics["protocols"]["cellvta_conic"]["bPQ"]}, **about)
    other = tmp_path / "again.toml"
    other.write_text((tmp_path / "me.toml").read_text().replace("figures.csv", "again.csv"))
    shutil.copy(figures, tmp_path / "again.csv")
    capsys.readouterr()
    assert world.call(other, *words[1:], weights=weights, results=tmp_path / "results") == 0
    assert "source images" in capsys.readouterr().out


def test_training_with_the_published_recipe(world, tmp_path, capsys):
    """The same path as `ablation EXPERIMENT=published`; the second call trains nothing."""
    toml(tmp_path / "me.toml", splits=[1], method="hovernet", metrics={"images": ["bPQ"]})
    table(tmp_path / "figures.csv", {("1", "images", "bPQ"): 2.0}, method="hovernet")
    words = (tmp_path / "me.toml", "--train")
    assert world.call(*words, weights="", results=tmp_path / "results") == 1
    (cells,) = rows(capsys.readouterr().out)
    assert cells[0] == "hovernet@debug: trained here, seed 0" and cells[8] == "0.01"
    (run,) = collect.runs(tmp_path / "results")
    assert run.id.kind == "published" and run.provenance["command"].startswith("python -m benchmark")
    assert world.call(*words, weights="", results=tmp_path / "results") == 1
    assert "Nothing to run: 1 of 1 cells are done." in capsys.readouterr().err


def test_a_training_that_cannot_run_is_missing(world, tmp_path, capsys):
    """UNI's weights are gated: the cells are skipped, and say what to give."""
    assert world.call("cellvta-pannuke", "--train", weights="", results=tmp_path / "results") == 2
    _, err = capsys.readouterr()
    assert "fold 1 seed 0 is skipped (" in err and "BACKBONE" in err
    assert not list((tmp_path / "results").rglob("metrics.json"))


BAD = {
    "paper": (["cellvta-panuke"], "Did you mean 'cellvta-pannuke'"),
    "file of a paper": (["nowhere.toml"], "nowhere.toml: expected the file of a paper"),
    "no weights": (["cellvta-pannuke"], "needs --weights"),
    "no folder": (["cellvta-pannuke", "--weights", "/nowhere/at/all"], "/nowhere/at/all: expected a folder"),
    "fold": (["cellvta-pannuke", "--weights", ".", "--folds", "4"], "FOLDS=4"),
    "another recipe": (["me", "recipe.precision=bf16"], "recipe.precision decides the result"),
    "files for a training": (["cellvta-pannuke", "--weights", ".", "--train"], "reads no official files"),
    "an encoder for files": (
        ["cellvta-pannuke", "--weights", ".", "--backbone", "b"],
        "official files hold their encoders",
    ),
    "data": (["me", "--data-root", "/nowhere/at/all"], "/nowhere/at/all"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, world, paper, tmp_path, capsys):
    words, says = BAD[name]
    own = [*(["--weights", str(world.weights)] if words[0] == "me" else [])]
    words = [str(paper()) if word == "me" else word for word in words]
    results = tmp_path / "results"
    code = main(
        ["reproduce", *words, *own, "--results", str(results), "--cache", str(tmp_path / "c"), "--device", "cpu"]
    )
    _, err = capsys.readouterr()
    assert code == 2 and says in err and "Traceback" not in err, err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert not list(results.rglob("*.json")), "nothing half-written"


def test_several_processes_are_refused(world, paper, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert world.call(paper()) == 2 and "works in one process" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert world.call(paper()) == 2 and "WORLD_SIZE is 'two'" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "")
    assert world.call(paper()) == 0


def test_the_list_names_files_licences_and_sizes(capsys, tmp_path, cache):
    assert main(["reproduce"]) == 0
    out = capsys.readouterr().out
    for name in ("cellvta-pannuke", "cellvta-conic", "cellvit-pannuke", "hovernet"):
        assert f"**{name}: " in out and papers.find(name)
    assert "CellVTA_UNI_pannuke_split1.pth" in out and "Commons Clause" in out and "1.55 GB" in out
    assert "found" not in out and "missing" not in out, "no folder was looked at"
    (tmp_path / "a.pth").write_text("no weights")
    assert main(["reproduce", "list", "--weights", str(tmp_path), "--cache", str(cache)]) == 0
    out = capsys.readouterr().out
    assert "missing" in out and "a.pth is not used: " in out
