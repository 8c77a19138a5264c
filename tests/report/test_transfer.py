"""The matrix of training and test sets: which runs stand in it, its arithmetic, caption, notes, figure and page."""

import csv
from html.parser import HTMLParser

import pytest
from PIL import Image

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.build import build
from benchmark.report.figures import transfer
from benchmark.report.select.transfer import matrices
from benchmark.report.transfer import write_matrices
from benchmark.results.collect import runs
from tests.support.report_runs import make_run, squares, table_rows

METHOD = "cellvta@small"
OVERLAP = {"images": 5, "left_out": 3, "by_name": 2, "by_pixels": 1, "unknown": ""}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def transferred(results, stored, trained, dataset, bpq, *, method=METHOD, seed=0, kind="main", tag="w", **entry):
    """A run of weights that were trained on `trained`, on the test side of `dataset`."""
    run = {"dataset": trained, "method": method, "fold": 1, "seed": seed, "kind": kind}
    transfer = {"trained": run, "seen_mpp": None, "classes": ["Neoplastic", "Inflammatory"], "overlap": OVERLAP} | entry
    file = {"tag": f"{tag}-{trained}-{seed}", "name": "w", "sha256": "00" * 32, "remarks": []}
    return make_run(results, stored, METHOD, 1, 0, bpq, dataset=dataset, kind="evaluated", file=file, transfer=transfer)


@pytest.fixture
def results(tmp_path, stored):
    """Trained on a and on b, tested on a, b and c; b on c is missing. Others that have no place in the matrix."""
    for dataset, bpq in (("a", 0.6), ("b", 0.5)):
        make_run(tmp_path / "r", stored, METHOD, bpq=bpq, dataset=dataset)
    transferred(tmp_path / "r", stored, "a", "b", 0.4)
    transferred(
        tmp_path / "r", stored, "b", "a", 0.3, overlap=OVERLAP | {"left_out": 0, "unknown": "b names no <patient>"}
    )
    transferred(tmp_path / "r", stored, "a", "c", 0.2, seen_mpp=0.5, resampling="bilinear-nearest", classes=[])
    transferred(tmp_path / "r", stored, "a", "c", 0.1, seed=1, seen_mpp=0.5, resampling="bilinear-nearest", classes=[])
    make_run(tmp_path / "r", stored, "hovernet@small", dataset="a")
    make_run(tmp_path / "r", stored, METHOD, dataset="d")
    return tmp_path / "r"


def test_the_runs_of_a_matrix(results):
    (matrix,) = matrices(runs(results))
    assert (matrix.method, matrix.kind, matrix.trained, matrix.tested) == (METHOD, "main", ["a", "b"], ["a", "b", "c"])
    values = {
        pair: [r.metrics["protocols"]["cellvit"]["bPQ"] for r in cell.runs] for pair, cell in matrix.cells.items()
    }
    assert values == {
        ("a", "a"): [0.6],
        ("a", "b"): [0.4],
        ("a", "c"): [0.2, 0.1],
        ("b", "a"): [0.3],
        ("b", "b"): [0.5],
    }
    assert [pair for pair, cell in matrix.cells.items() if cell.own] == [("a", "a"), ("b", "b")]


def test_of_weights_that_were_trained_anew_the_last_evaluation_counts(tmp_path, stored):
    for tag, bpq, finished in (("w1", 0.4, "2026-01-02"), ("w2", 0.7, "2026-01-01")):
        folder = transferred(tmp_path, stored, "a", "b", bpq, tag=tag)
        path = folder / "provenance.json"
        path.write_text(path.read_text().replace('{"command"', f'{{"finished": "{finished}", "command"', 1))
    (matrix,) = matrices(runs(tmp_path))
    (run,) = matrix.cells["a", "b"].runs
    assert run.metrics["protocols"]["cellvit"]["bPQ"] == 0.4


def ended(folder, finished, n_images=2):
    """Set when a run ended, and how many images it tested."""
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace('{"command"', f'{{"finished": "{finished}", "command"', 1))
    path = folder / "metrics.json"
    path.write_text(path.read_text().replace('"n_images": 2', f'"n_images": {n_images}'))


@pytest.mark.parametrize("last", ["filtered", "not looked into", "none left out"])
def test_a_test_without_the_known_images_counts_whatever_was_run_last(last, tmp_path, stored):
    overlaps = {"filtered": OVERLAP, "not looked into": None, "none left out": OVERLAP | {"left_out": 0}}
    for name, overlap in overlaps.items():
        folder = transferred(tmp_path, stored, "a", "b", 0.4 if overlap is OVERLAP else 0.9, tag=name, overlap=overlap)
        ended(folder, "2026-01-02" if name == last else "2026-01-01")
    (matrix,) = matrices(runs(tmp_path))
    (run,) = matrix.cells["a", "b"].runs
    assert run.metrics["protocols"]["cellvit"]["bPQ"] == 0.4


def test_tests_that_were_not_looked_into_are_not_averaged_with_those_that_were(tmp_path, stored):
    ended(transferred(tmp_path / "r", stored, "a", "b", 0.9, seed=0, overlap=None), "2026-01-01", 5)
    transferred(tmp_path / "r", stored, "a", "b", 0.4, seed=1)
    ended(
        transferred(tmp_path / "r", stored, "a", "b", 0.2, seed=2, overlap=OVERLAP | {"left_out": 0, "by_name": 0}),
        "2026-01-01",
        5,
    )
    transferred(tmp_path / "r", stored, "a", "c", 0.1, overlap=None)
    make_run(tmp_path / "r", stored, METHOD, dataset="a")
    write_matrices(runs(tmp_path / "r"), tmp_path / "out", "cellvit")
    folder = tmp_path / "out" / "transfer" / METHOD
    text = (folder / "transfer-cellvit.md").read_text()
    assert "Left out for overlap: a → b 3 of 5 and 0 of 5 images. Overlap not looked into: a → c." in text
    assert "3 of 5 test images left out (2 by name, 1 by pixels)" in text and "0 of 5 test images left out" in text
    assert "1 other run, whose overlap was not looked into, not averaged with these" in text
    assert "whether the training has seen test images was not looked into" in text
    with open(folder / "transfer-cellvit.csv", newline="") as stream:
        lines = {(r["trained"], r["tested"]): r for r in csv.DictReader(stream) if r["metric"] == "bPQ"}
    both = lines["a", "b"]
    assert float(both["value"]) == pytest.approx(0.3) and both["runs"] == "2"
    assert {*both["left_out"].split("; ")} == {"3", "0"} and {*both["images"].split("; ")} == {"2", "5"}
    unknown = {pair: line["overlap_unknown"] for pair, line in lines.items()}
    assert unknown == {("a", "a"): "", ("a", "b"): "", ("a", "c"): "not looked into"}


def test_trainings_of_two_kinds_are_two_matrices(tmp_path, stored):
    make_run(tmp_path, stored, METHOD, dataset="a")
    make_run(tmp_path, stored, METHOD, dataset="a", kind="published")
    transferred(tmp_path, stored, "a", "b", 0.4)
    transferred(tmp_path, stored, "a", "b", 0.3, kind="published", tag="p")
    names = {matrix.name: [run.id.kind for run in matrix.cells["a", "a"].runs] for matrix in matrices(runs(tmp_path))}
    assert names == {METHOD: ["main"], f"{METHOD} (published recipe)": ["published"]}


def test_a_published_file_has_its_name_and_training_set(tmp_path, stored):
    folder = transferred(tmp_path, stored, "a", "b", 0.4)
    path = folder / "config.json"
    text = path.read_text()
    begin, end = text.index('{"dataset": "a"'), text.index("}", text.index('{"dataset": "a"')) + 1
    path.write_text(f'{text[:begin]}{{"dataset": "pannuke"}}{text[end:]}')
    (matrix,) = matrices(runs(tmp_path))
    assert (matrix.name, matrix.trained, matrix.tested) == (f"{METHOD} (random)", ["pannuke"], ["b"])


def test_the_table_its_caption_and_notes(tmp_path, results):
    (written,) = write_matrices(runs(results), tmp_path / "out", "cellvit")
    folder = tmp_path / "out" / "transfer" / METHOD
    assert tmp_path / "out" / written.folder == folder
    text = (folder / "transfer-cellvit.md").read_text()
    rows = table_rows(text)
    assert rows[:3] == [["trained on", "a", "b", "c"], ["a", "0.600", "0.400", "0.150"], ["b", "0.300", "0.500", "–"]]
    assert rows[3:6] == [["trained on", "a", "b", "c"], ["a", "0.300", "0.200", "0.075"], ["b", "0.150", "0.250", "–"]]
    version = PROTOCOLS["cellvit"].version
    caption = f"Trained here, tested there: {METHOD}, protocol `cellvit` version {version}. Left out for overlap: "
    assert f"{caption}a → b 3 of 5 images; a → c 3 of 5 images. Overlap unknown: b → a." in text
    assert (
        "a → c: 2 runs, 2 test images; no class of both, hence no mPQ; images resampled from 0.25 to 0.5 µm/px" in text
    )
    assert "3 of 5 test images left out (2 by name, 1 by pixels)" in text
    assert "overlap unknown beyond that: b names no &lt;patient>" in text, "no live HTML"
    with open(folder / "transfer-cellvit.csv", newline="") as stream:
        lines = {(r["trained"], r["tested"], r["metric"]): r for r in csv.DictReader(stream)}
    assert len(lines) == 5 * 3
    line = lines["a", "c", "bPQ"]
    assert float(line["value"]) == pytest.approx(0.15) and (line["runs"], line["left_out"]) == ("2", "3")
    assert (line["seen_mpp"], line["classes"], lines["a", "a", "bPQ"]["left_out"]) == ("0.5", "", "")
    assert lines["a", "b", "mPQ"]["classes"] == "Neoplastic; Inflammatory"
    with Image.open(folder / "transfer.png") as picture:
        assert min(picture.size) > 200
    assert (folder / "transfer.csv").read_bytes() == (folder / "transfer-cellvit.csv").read_bytes()


def test_test_images_without_types_are_said_to_have_none(tmp_path, stored):
    folder = transferred(tmp_path / "r", stored, "a", "b", 0.4)
    path = folder / "metrics.json"
    path.write_text(path.read_text().replace('"n_untyped": 0', '"n_untyped": 2'))
    (written,) = write_matrices(runs(tmp_path / "r"), tmp_path / "out", "cellvit")
    assert "the test images have no types, hence no mPQ" in written.table.notes[1]


def test_an_overlap_that_was_not_looked_into_is_said(tmp_path, stored):
    transferred(tmp_path / "r", stored, "a", "b", 0.4, overlap=None)
    (written,) = write_matrices(runs(tmp_path / "r"), tmp_path / "out", "cellvit")
    assert written.table.caption.endswith("Left out for overlap: none. Overlap not looked into: a → b.")


def test_only_one_method_is_written_where_one_is_asked_for(tmp_path, results, stored):
    assert write_matrices(runs(results), tmp_path / "out", "cellvit", only={("hovernet@small", "main")}) == []
    assert len(write_matrices(runs(results), tmp_path / "out", "cellvit", only={(METHOD, "main")})) == 1


class Ids(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]


def test_the_page_has_a_block_of_it(tmp_path, results):
    page = build(results, tmp_path / "out", tmp_path / "cache").read_text(encoding="utf-8")
    parser = Ids()
    parser.feed(page)
    assert "transfer0-transfer-cellvit" in parser.ids and len(parser.ids) == len(set(parser.ids))
    assert "b names no &lt;patient&gt;" in page and "<patient>" not in page
    assert f"transfer/{METHOD}/transfer-cellvit.csv" in page or f"transfer/{METHOD.replace('@', '%40')}/" in page
    only = build(results, tmp_path / "d", tmp_path / "cache", dataset="d").read_text(encoding="utf-8")
    assert "transfer0" not in only


def test_a_report_of_one_data_set_leaves_the_matrix_whole(tmp_path, results, capsys):
    """It was overwritten with the part of that data set, and nothing said so."""
    build(results, tmp_path / "out", tmp_path / "cache")
    folder = tmp_path / "out/transfer" / METHOD
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    page = build(results, tmp_path / "out", tmp_path / "cache", dataset="b").read_text(encoding="utf-8")
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert "transfer0" not in page and "`report` without --dataset writes them" in capsys.readouterr().err
    build(results, tmp_path / "out", tmp_path / "cache", dataset="d")
    assert "without --dataset" not in capsys.readouterr().err, "it stands in no matrix"


def test_long_names_of_sets_stay_apart_in_the_figure(tmp_path, monkeypatch):
    trained = ["consep@classes=4+monuseg", "consep@classes=pannuke+monuseg", "pannuke"]
    tested = ["lizard@classes=consep", "lizard@classes=conic"]
    rows = [{"trained": a, "tested": b, "metric": "bPQ", "value": 0.5} for a in trained for b in tested]
    labels = []

    def read(figure, *_):
        axes = figure.axes[0]
        labels.extend([text.get_text() for text in side()] for side in (axes.get_yticklabels, axes.get_xticklabels))

    monkeypatch.setattr(transfer, "save", read)
    assert transfer.transfer_figure(rows, tmp_path)
    assert labels == [trained, tested]
