"""Papers as data, their figures from stored records, and the ledger, in which no line ever changes."""

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.papers import ledger
from benchmark.report.papers import paper as papers
from benchmark.report.papers.compare import comparison_table, figures, without_mean
from benchmark.report.papers.files import lacking
from benchmark.report.tables import published
from benchmark.results import collect
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support.drawn_records import TISSUES, drawn
from tests.support.report_runs import make_run

CLASSES = ["a", "b", "c", "d", "e"]
COUNTS = {1: 2722, 2: 2722, 3: 2656}  # published test images of PanNuke's splits
LEDGER = ROOT / "docs/reference/ledger.csv"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Official CellVTA files of three splits, each with drawn records of its own."""
    root = tmp_path_factory.mktemp("papers")
    for split in (1, 2, 3):
        store(root, split)
    return root / "results"


def store(root, split, kind="official", seed=0, trained_for=None, **changes):
    """A run whose scores follow from its records, but for the number of images, which is the published one."""
    records = drawn(10, 12, (128, 128), seed=split + 10 * seed)
    for number, row in enumerate(records.images.index):
        records.images.loc[row, "source"] = f"slide {split}-{number}"
    folder = root / f"records {split} {kind} {seed} {len(changes)}"
    records.save(folder)
    names = {"classes": CLASSES, "tissues": list(TISSUES), "scale": "paper"}
    if kind == "official":
        tag = f"split{split}-{kind}{seed}"
        trained = split if trained_for is None else trained_for
        names["file"] = {"tag": tag, "name": f"split{split}.pth", "sha256": f"{split}" * 64, "split": trained}
    names |= {"dataset": "pannuke", "kind": kind, **changes}
    run = make_run(root / "results", folder, "cellvta@paper", split, seed if kind != "official" else 0, **names)
    metrics = json.loads((run / "metrics.json").read_text())
    summary = PROTOCOLS["cellvit"].summary(records, CLASSES, list(TISSUES))
    values = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in summary.items()}
    metrics["protocols"] = {"cellvit": values | {"version": PROTOCOLS["cellvit"].version}}
    metrics["n_images"] = COUNTS[split]
    (run / "metrics.json").write_text(json.dumps(metrics))
    provenance = json.loads((run / "provenance.json").read_text())
    hardware = {"cpu": "AMD EPYC", "cores": 2, "memory_gb": 23.5, "gpu": None}
    provenance |= {"finished": f"2026-01-0{split}T00:00:00+00:00", "hardware": hardware, "commit": "0123abc"}
    (run / "provenance.json").write_text(json.dumps(provenance))
    return run


def cellvta():
    return papers.find("cellvta-pannuke")


def by_place(measured):
    return {(figure.split, figure.metric): figure for figure in measured}


def test_each_figure_is_that_of_its_split_averaging_and_metric(results):
    runs = collect.runs(results)
    scores = {run.id.split: run.metrics["protocols"]["cellvit"] for run in runs}
    measured = by_place(figures(cellvta(), runs))
    assert len(measured) == 16 and len({figure.measured.value for figure in measured.values()}) == 16
    for (split, metric), figure in measured.items():
        lines = published.published("cellvta", "paper", "pannuke", split, metric, "cellvit")["value"]
        assert figure.published == lines.item() and figure.measured.low < figure.measured.value < figure.measured.high
        assert figure.unit == "source images" and figure.measured.clusters == (30 if split == "all" else 10)
        if split != "all":
            assert figure.measured.value == pytest.approx(scores[int(split)][metric], abs=1e-12)
    for metric in ("bPQ", "mPQ"):
        mean = np.mean([scores[k][metric] for k in scores])
        of_tissues = [np.mean([scores[k][f"tissue/{t}/{metric}"] for k in scores]) for t in TISSUES]
        assert measured["all", metric].measured.value == pytest.approx(mean, abs=1e-12)
        assert measured["all", f"tissue_mean/{metric}"].measured.value == pytest.approx(np.mean(of_tissues), abs=1e-12)


def test_the_tolerance_is_of_the_absolute_difference(results):
    (figure, *_) = figures(cellvta(), collect.runs(results))
    for above, within in ((0.0019, True), (-0.0019, True), (0.0021, False), (-0.0021, False)):
        value = figure.published + above
        assert replace(figure, measured=replace(figure.measured, value=value)).within is within


def test_what_is_not_the_paper_s_does_not_count(tmp_path):
    store(tmp_path, 1, trained_for=2)  # evaluated all the same (--any-fold)
    store(tmp_path, 2, settings={"recipe.precision": "bf16"})
    store(tmp_path, 3, spec="cellvta@matched")
    assert len(collect.runs(tmp_path / "results")) == 3
    assert figures(cellvta(), collect.runs(tmp_path / "results")) == []
    assert "0 of the paper's 16 figures" in comparison_table(cellvta(), []).notes[0]


def test_trainings_are_judged_apart_and_from_pretrained_weights_alone(tmp_path):
    store(tmp_path, 1, "published", backbone={"name": "uni", "weights": "uni.bin:abc"})
    store(tmp_path, 1, "published", seed=1, backbone={"name": "uni", "weights": "random"})
    measured = figures(cellvta(), collect.runs(tmp_path / "results"))
    of_seed = {figure.weights: figure for figure in measured if figure.metric == "bPQ"}
    assert of_seed["trained here, seed 0"].tolerance == 0.01 and not of_seed["trained here, seed 0"].why
    assert "random weights" in of_seed["trained here, seed 1"].why and of_seed["trained here, seed 1"].within is None


def test_papers_are_installed_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["benchmark"]
    assert any((papers.FOLDER / "hovernet.toml").match(pattern.removeprefix("**/")) for pattern in patterns)


def test_a_figure_is_written_into_the_ledger_once(results, tmp_path, capsys):
    file, runs = tmp_path / "ledger.csv", collect.runs(results)
    assert ledger.append([cellvta()], runs[:1], file) == 4
    first = file.read_bytes()
    header, line, *_ = first.decode().splitlines()
    assert tuple(header.split(",")) == ledger.COLUMNS
    start = '2026-01-01T00:00:00+00:00,0123abc,"2 cores of an AMD EPYC with 23.5 GB, no GPU",cellvta-pannuke,'
    assert line.startswith(
        start + '"cellvta@paper: split1.pth, sha256 111111111111",pannuke,1,cellvit 1,images,bPQ,0.668133,'
    )
    assert line.endswith(",0.002,no")
    assert ledger.append([cellvta()], runs[:1], file) == 0 and file.read_bytes() == first
    assert ledger.append([cellvta()], runs, file) == 12, "two more splits and the mean over them"
    assert file.read_bytes().startswith(first)
    other = replace(cellvta(), tolerance={"official": (1.0, "")})
    assert ledger.append([other], runs, file) == 0, "a line says what held when it was written"
    assert capsys.readouterr().err == ""


def test_what_has_no_verdict_or_no_commit_is_not_written(tmp_path, capsys):
    run = store(tmp_path, 1)
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"dirty": "12ab"}))
    file, runs = tmp_path / "ledger.csv", collect.runs(tmp_path / "results")
    assert ledger.append([cellvta()], runs, file) == 0 and file.read_text() == ",".join(ledger.COLUMNS) + "\n"
    assert capsys.readouterr().err.count("not in the ledger: pannuke cellvta@paper") == 1
    assert ledger.append([replace(cellvta(), reservation="others")], runs, file) == 0
    assert capsys.readouterr().err == ""


DAMAGED = {
    "another column": lambda text: text.replace("measured", "scored", 1),
    "no header": lambda text: text.partition("\n")[2],
    "empty": lambda text: "",
    "a cell less": lambda text: text.replace(",pannuke,", ",", 1),
    "torn": lambda text: text.rstrip("\n")[:-2],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_ledger_that_was_edited_is_refused(name, results, tmp_path, capsys):
    file = tmp_path / "ledger.csv"
    ledger.append([cellvta()], collect.runs(results)[:1], file)
    file.write_text(DAMAGED[name](file.read_text()))
    before = file.read_bytes()
    assert main(["reference", "--only-ledger", "--results", str(results), "--ledger", str(file)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {file}: expected ") and "restore the file" in err and err.count("\n") == 1
    assert file.read_bytes() == before


def test_reference_adds_to_the_ledger(results, tmp_path, capsys):
    words = ["reference", "--only-ledger", "--results", str(results), "--ledger", str(tmp_path / "l.csv")]
    assert main(words) == 0 and "16 new lines" in capsys.readouterr().out
    assert main(words) == 0 and "0 new lines" in capsys.readouterr().out


def test_the_committed_ledger_can_be_added_to(tmp_path):
    (tmp_path / "ledger.csv").write_bytes(LEDGER.read_bytes())
    assert ledger.append([], [], tmp_path / "ledger.csv") == 0
    assert (tmp_path / "ledger.csv").read_bytes() == LEDGER.read_bytes()


@pytest.mark.parametrize("name", papers.names())
def test_papers_name_rows_splits_and_figures_that_exist(name):
    from benchmark.data.registry import dataset_names
    from benchmark.methods.registry import parse

    paper = papers.find(name)
    assert paper.dataset in dataset_names() and all(file.size and file.licence for file in paper.files)
    for row in paper.rows:
        parse(f"{paper.method}@{row}", "paper")
        for split in map(str, paper.splits):
            known = [
                not math.isnan(paper.value(row, split, average, metric))
                for average, metrics in paper.metrics.items()
                for metric in metrics
            ]
            assert all(known) if name != "hovernet" else not any(known)


BAD = {
    "title = 1": "expected 'title' to be text, found 1",
    'titel = "x"': "Did you mean 'title'",
    "splits = []": "at least one file and one split",
    "splits = [1, 1, 2, 3]": "each once; found [1, 1, 2, 3]",
    "splits = [true, 2, 3]": "splits as whole numbers",
    "weights = inf": "expected 'weights' to be a number of at least 0, found inf",
    "trained = nan": "expected 'trained' to be a number of at least 0, found nan",
    "weights = -0.1": "at least 0, found -0.1",
    'protocol = "celvit"': "unknown protocol 'celvit'",
    'reservation = "x"': "either [tolerance] or a 'reservation'",
    'published = "nowhere.csv"': "nowhere.csv: expected the table",
    "split = 7": "split 7 is none of [1, 2, 3]",
    "weights = true": "expected 'weights' to be a number",
    "magnification = 40.5": "expected 'magnification' to be a whole number",
}


@pytest.mark.parametrize("line", BAD)
def test_a_paper_that_is_not_as_it_should_be_is_one_sentence(line, tmp_path):
    lines = (papers.FOLDER / "cellvta-pannuke.toml").read_text().splitlines()
    key = line.partition(" =")[0]
    place = next((i for i, text in enumerate(lines) if text.startswith(f"{key} =")), None)
    lines = [line, *lines] if place is None else [*lines[:place], line, *lines[place + 1 :]]
    (tmp_path / "me.toml").write_text("\n".join(lines))
    with pytest.raises(InputError) as raised:
        papers.find(str(tmp_path / "me.toml"))
    assert BAD[line] in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["", "n/a", "0.5 ± 0.1", "nan", "inf"])
def test_a_published_figure_is_a_number(value, tmp_path):
    lines = (papers.FOLDER / "cellvta-pannuke.toml").read_text()
    (tmp_path / "me.toml").write_text(f'published = "own.csv"\n{lines}')
    table = [",".join(published.COLUMNS), f"cellvta,paper,pannuke,1,cellvit,images,bPQ,{value},me,"]
    (tmp_path / "own.csv").write_text("\n".join(table))
    with pytest.raises(InputError, match=r"own.csv, line 2: expected a number as value"):
        papers.find(str(tmp_path / "me.toml"))


def test_a_split_with_two_files_has_no_mean_and_that_is_a_lack(results, tmp_path):
    runs = collect.runs(results)
    assert without_mean(cellvta(), runs) == []
    again = collect.finished(store(tmp_path, 1, seed=5))
    both = [*runs, again]
    assert not any(figure.split == "all" for figure in figures(cellvta(), both))
    (lack,) = without_mean(cellvta(), both)
    assert "split 1 has split1.pth and split1.pth" in lack and "leave one file of each split" in lack


def test_what_one_can_get_is_named_first():
    """The files that are not published were named, and those to download were not."""
    paper = papers.find("cellvit-pannuke")
    said = lacking(paper, (1, 2, 3), [], Path("weights"))
    loose = [file.name for file in paper.files if not file.split]
    assert len(loose) == 2 and all(name in sentence for name, sentence in zip(loose, said)), said
    assert "published at" in said[0] and "published at" in said[1] and len(said) == len(paper.files)
    assert lacking(paper, (1,), [(file.row, file.split, file.name) for file in paper.files], Path("weights")) == []
