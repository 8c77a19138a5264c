"""What enters a table: grouping, what is unusual about the runs, damaged and foreign files."""

import json
import re
import shutil

import pytest

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.select.groups import MOST, Group, Row, groups
from benchmark.report.write import write_tables
from benchmark.results import collect
from benchmark.runtime.errors import InputError
from tests.support.report_runs import CLASSES, MAIN, TISSUES, make_run, read_csv, squares, table_rows


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def test_datasets_kinds_presets_and_weights_are_never_mixed(tmp_path, stored):
    make_run(tmp_path, stored, bpq=0.1)
    make_run(tmp_path, stored, bpq=0.2, kind="published")
    make_run(tmp_path, stored, bpq=0.3, dataset="pannuke")
    make_run(tmp_path, stored, "cellvta@debug", bpq=0.4)
    make_run(tmp_path, stored, fold=2, bpq=0.9, weights="uni.bin")
    text = write_tables(tmp_path, tmp_path / "out")
    text = text.replace("**0.900 (1/2)**", "0.900 (1/2)").replace(
        "<u>0.100 (1/2)</u>", "0.100 (1/2)"
    )  # best and second
    measured = "".join(part for part in text.split("\n**") if "Published figures" not in part and "Cost." not in part)
    cells = [row[:3] for row in table_rows(measured) if row[0] != "method"]
    assert sorted(row[2] for row in cells) == ["0.100 (1/2)", "0.200", "0.300", "0.400", "0.900 (1/2)"]
    assert ["cellvta (uni.bin)", "tiny (uni.bin)", "0.900 (1/2)"] in cells
    folders = {str(p.parent.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("main-*.md")}
    assert folders == {
        "synthetic/main-small",
        "synthetic/published-small",
        "pannuke/main-small",
        "synthetic/main-debug",
    }
    one = write_tables(tmp_path, tmp_path / "o2", dataset="pannuke", kind="main", splits=[1], seeds=[0])
    assert len(table_rows(one.split("**Cost")[0])) == 2 and "0.300" in one


def test_notes_tell_what_is_unusual(tmp_path, stored):
    make_run(tmp_path, stored, "cellvta@small")
    make_run(
        tmp_path,
        stored,
        "hovernet@small",
        recipe={"epochs": 9, "optimiser": {"lr": 1e-3}},
        cost={"peak_memory_kind": "cuda"},
    )
    text = write_tables(tmp_path, tmp_path / "out")
    assert "recipes differ in epochs." in text and "512 cuda" in text and "512 rss" in text
    assert "One run per row" in text and "and 0 more" not in text
    folder = tmp_path / "synthetic/hovernet@small/fold1-seed0"
    for name, change in (
        ("provenance", {"data_fingerprint": "other", "dirty": True, "hardware": {"gpu": "H"}}),
        ("metrics", {"n_untyped": 1}),
    ):
        value = json.loads((folder / f"{name}.json").read_text()) | change
        (folder / f"{name}.json").write_text(json.dumps(value))
    text = write_tables(tmp_path, tmp_path / "out")
    assert "different versions of the data" in text and "with uncommitted changes" in text
    assert "different machines" in text and "1 of 2 test images is untyped" in text


def test_damaged_and_foreign_files_are_named_and_skipped(tmp_path, stored, capsys):
    good = make_run(tmp_path, stored, fold=1)
    partial = make_run(tmp_path, stored, fold=2)
    for name in ("metrics.json", "provenance.json"):  # both are written when a run ends
        (partial / name).unlink()
    robbed = make_run(tmp_path, stored, fold=4)
    (robbed / "metrics.json").unlink()
    damage = {
        "config.json": "{",
        "metrics.json": '{"protocols": {"cellvit": {"bPQ": "high"}}}',
        "cost.json": "[1]",
    }
    for seed, (name, content) in enumerate(damage.items(), 1):
        (make_run(tmp_path, stored, seed=seed) / name).write_text(content)
    (make_run(tmp_path, stored, seed=8) / "nuclei.parquet").write_bytes(b"PAR1 no")
    shutil.copytree(good, good.with_name("fold3-seed0"))
    shutil.copytree(good, good.with_name("copy of fold1"))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "synthetic" / "hovernet@small").write_text("a file where a folder is expected")
    (tmp_path / "README.md").write_text("belongs here")
    (tmp_path / ".lock").write_text("")
    runs = collect.runs(tmp_path)
    assert [(r.id.split, r.id.seed) for r in runs] == [(1, 0), (1, 3), (1, 8)] and runs[1].cost == {}
    text = write_tables(tmp_path, tmp_path / "out")
    assert "0.500 ± 0.000" in text and "(2/3)" in text  # no images/s where cost.json is damaged
    told = capsys.readouterr().err
    for name in (
        "fold1-seed1",
        "fold1-seed2",
        "cost.json",
        "fold1-seed8",
        "fold3-seed0",
        "fold4-seed0: it has no metrics.json",
        "copy of fold1",
        "notes.txt",
        "hovernet@small",
    ):
        assert name in told, name
    assert [name for name in ("README", ".lock", "fold2", "Traceback") if name in told] == []


def test_no_value_of_a_damaged_file_is_fatal(tmp_path, stored):
    """Every entry of every JSON file is replaced by values of other types, one run each."""
    first = make_run(tmp_path, stored, settings={"recipe.clip": 2.0}, spec="cellvta@small")
    seed = 0
    for name in ("config", "metrics", "cost", "provenance"):
        for key in json.loads((first / f"{name}.json").read_text()):
            for wrong in (None, "x", [1, "a"], {"a": None}, -3, {"b": [1]}):
                seed += 1
                folder = first.with_name(f"fold1-seed{seed}")
                folder.mkdir()
                for file in first.glob("*.json"):
                    value = json.loads(file.read_text())
                    value |= {"seed": seed} if file.stem == "config" else {}
                    value |= {key: wrong} if file.stem == name else {}
                    (folder / file.name).write_text(json.dumps(value))
    assert "cellvta" in write_tables(tmp_path, tmp_path / "out") and seed > 150


def test_scores_of_an_older_protocol_are_computed_again(tmp_path, stored, capsys):
    folder = make_run(tmp_path, stored, bpq=0.123, version=-1)
    text = write_tables(tmp_path, tmp_path / "out", protocol="all")
    rows = re.findall(r"\n\| cellvta +\| tiny \(random\)", text)
    assert "0.123" not in text and len(rows) == len(PROTOCOLS) + 1  # and the costs
    expected = PROTOCOLS["pannuke"].summary(squares(), CLASSES, TISSUES)["bPQ"]
    assert read_csv(tmp_path / "out" / MAIN / "main-pannuke.csv")[0]["bPQ_mean"] == f"{expected:.10g}"
    (folder / "overlaps.parquet").unlink()
    assert table_rows(write_tables(tmp_path, tmp_path / "out"))[1][2] == "–"
    assert "fold1-seed0" in capsys.readouterr().err


def test_records_of_a_newer_version_are_left_out_and_named(tmp_path, stored, capsys):
    folder = make_run(tmp_path, stored)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"identity": {"records": 99}}))
    with pytest.raises(InputError, match="No complete runs"):
        write_tables(tmp_path, tmp_path / "out")
    assert "version 99" in capsys.readouterr().err


def test_empty_results_and_bad_arguments(tmp_path, stored):
    with pytest.raises(InputError, match="No complete runs"):
        write_tables(tmp_path / "absent", tmp_path / "out")
    missing = write_tables(
        tmp_path / "absent",
        tmp_path / "out",
        dataset="synthetic",
        experiment_methods=["cellvta@small"],
        splits=[1, 2],
        seeds=[0],
    )
    assert table_rows(missing)[1] == ["cellvta", *"–" * 9, "0/2"]
    assert not list((tmp_path / "out").rglob("*.png")), "no empty figure"
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; expected the results folder"):
        write_tables(tmp_path / "file", tmp_path / "out")
    with pytest.raises(InputError, match="Did you mean 'pannuke'"):
        write_tables(tmp_path, tmp_path / "out", protocol="panuke")
    make_run(tmp_path / "results", stored)
    with pytest.raises(InputError, match="Cannot write"):
        write_tables(tmp_path / "results", tmp_path / "file")


def test_no_types_and_no_tissues(tmp_path, stored):
    folder = make_run(tmp_path, stored, classes=[], tissues=[])
    metrics = json.loads((folder / "metrics.json").read_text())
    for name, scores in metrics["protocols"].items():
        metrics["protocols"][name] = {k: v for k, v in scores.items() if "tissue/" not in k}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_tables(tmp_path, tmp_path / "out")
    names = {p.stem for p in (tmp_path / "out" / MAIN).iterdir()}
    assert names == {"main-cellvit", "cost", "sizes", "crowding", "runs"}


def test_groups_keep_the_experiments_order(tmp_path, stored):
    for method in ("a@small", "b@small", "c@small,k=2"):
        make_run(tmp_path, stored, method)
    (group,) = groups(collect.runs(tmp_path), methods=["b@small"])
    assert [row.label for row in group.rows] == ["b", "a", "c,k=2"]


def test_folds_whose_classes_stand_in_another_order_are_not_pooled_by_number(tmp_path, stored, capsys):
    """Folds of a row may be of two versions of a data set: class 1 of one is class 2 of the other."""
    for fold, classes in ((1, CLASSES), (2, CLASSES[::-1])):
        make_run(tmp_path / "results", stored, "cellvta@small", fold=fold, classes=classes)
        make_run(tmp_path / "results", stored, "hovernet@small", fold=fold)
    write_tables(tmp_path / "results", tmp_path / "out", protocol="all")
    said = capsys.readouterr().err
    assert (
        said.count("its folds are not pooled, it numbers its classes otherwise than synthetic cellvta@small fold 1")
        == 1
    )
    values = read_csv(tmp_path / "out" / MAIN / "averagings.csv")
    pooled = {row["method"]: row["value"] for row in values if row["folds"] == "pooled" and row["metric"] == "mPQ"}
    averaged = {row["method"]: row["value"] for row in values if row["folds"] == "averaged" and row["metric"] == "mPQ"}
    assert pooled["cellvta@small"] == "" and pooled["hovernet@small"]
    assert averaged["cellvta@small"] == averaged["hovernet@small"] != ""


def test_of_many_rows_those_are_drawn_that_the_experiment_is_about():
    plain = [Row(f"{name}@mini", ("", ""), [None]) for name in ("cellvta", "decoder_only")]
    trials = [Row(f"cellvta@mini,recipe.optimiser.lr={k}", ("", ""), [None]) for k in range(MOST)]
    own = [Row(f"{name}@mini,instances=flows,recipe.optimiser.lr=1", ("", ""), [None]) for name in ("cellvta", "a")]

    def group(*asked: Row, rows=(*plain, *trials, *own)) -> Group:
        return Group("synthetic", "main", "mini", [1], [0], list(rows), asked=[row.method for row in asked])

    assert group().drawn == plain and not group().draws_asked
    assert group(*own).drawn == own and group(*own).draws_asked
    assert group(*plain[:1]).drawn == plain, "it names rows as they are: others like them are drawn too"
    assert group(*trials, *own).drawn == plain, "as many as it names no figure can tell apart"
    assert group(*own, rows=own).drawn == own and not group(*own, rows=own).draws_asked
    for row in own:
        row.runs = []
    assert group(*own).drawn == plain, "figures of rows without runs would be empty"
