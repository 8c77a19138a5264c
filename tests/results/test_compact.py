"""Runs in compact form: every table comes back as it was, small enough to be committed; damage is named."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.match import match
from benchmark.metrics.records import TABLES, Records
from benchmark.results import compact, compact_records, manifest
from benchmark.results.collect import runs
from benchmark.results.kept import adopt, keep, unpacked
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support.drawn_records import drawn
from tests.support.report_runs import make_run, squares


def assert_same(one: Records, other: Records):
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True, obj=name)


def made(results, records: Records, method="cellvta@small", key="00ff", **more):
    """A finished run with these records, its files listed."""
    stored = results.parent / f"records {method} {len(list(results.glob('*/*/*')))}"
    records.save(stored)
    folder = RunFolder(make_run(results, stored, method, **more))
    metrics = json.loads(folder.metrics.read_text()) | {"key": key}
    folder.log.write_text("".join(json.dumps({"epoch": e, "loss": 1 / (e + 3)}) + "\n" for e in range(80)))
    folder.weights.write_bytes(b"weights")
    folder.metrics.write_text(json.dumps(manifest.listed(metrics, [folder.config, *folder.records], [folder.weights])))
    return folder


def mixed_types(number, true, true_types, pred, pred_types):
    """Types by pixel, two in every nucleus that crosses the middle column."""
    maps = [np.append(0, types)[labels] for labels, types in ((true, true_types), (pred, pred_types))]
    for types in maps:
        types[:, types.shape[1] // 2 :] = np.where(types[:, types.shape[1] // 2 :] > 0, 1, 0)
    return true, maps[0], pred, maps[1]


def some_empty(number, true, true_types, pred, pred_types):
    """Images without predictions, without true nuclei and without either."""
    no_true, no_pred = number in (1, 2), number in (0, 2)
    return (
        true * (not no_true),
        true_types * (not no_true) if not no_true else None,
        *((pred * 0, None) if no_pred else (pred, pred_types)),
    )


def gaps(factor):
    def edit(number, true, true_types, pred, pred_types):
        return true, true_types, pred * factor, pred_types

    return edit


def full(number, true, true_types, pred, pred_types):
    """One true nucleus that leaves no background, and predicted pixels that no other side's nucleus meets."""
    return np.ones_like(true), [2], pred, pred_types


def without_shapes():
    true, pred = np.zeros((2, 40, 40), int)
    true[3:9, 3:9], true[20:30, 0:9], pred[4:9, 3:9], pred[33:40, 33:40] = 1, 2, 1, 2
    return Records.collect([match(true, [1, 2], pred, [2, 1], mpp=0.5, shapes=False)], [{"image": 7, "image_id": "a"}])


CASES = {  # name -> (records, what is stored as it is)
    "squares": (squares, ["pred id"]),
    "border nuclei, several tissues": (lambda: drawn(5, 30), []),
    "not square": (lambda: drawn(3, 20, shape=(96, 200)), []),
    "mixed types by pixel": (lambda: drawn(3, 30, edit=mixed_types), ["overlaps"]),
    "empty images": (lambda: drawn(4, 10, edit=some_empty), []),
    "no nuclei at all": (lambda: drawn(2, 3, edit=lambda n, t, a, p, b: (t * 0, None, p * 0, None)), []),
    "untyped images": (lambda: drawn(3, 10, typed=False), []),
    "untyped predictions": (lambda: drawn(3, 10, edit=lambda n, t, a, p, b: (t, a, p, None)), []),
    "ids with gaps": (lambda: drawn(2, 10, edit=gaps(3)), ["pred id"]),
    "ids beyond 32 bits": (lambda: drawn(2, 10, edit=gaps(2**33)), ["pred id"]),
    "no background": (lambda: drawn(2, 10, edit=full), []),
    "no shapes": (without_shapes, []),
}


@pytest.mark.parametrize("name", CASES)
def test_every_table_comes_back_as_it_was(tmp_path, name):
    records, as_it_is = CASES[name][0](), CASES[name][1]
    folder = made(tmp_path / "results", records)
    (kept,) = keep(runs(tmp_path / "results"), tmp_path / "kept")
    assert kept.new and kept.as_it_is == as_it_is
    ((_, outcome),) = adopt([tmp_path / "kept"], tmp_path / "adopted")
    assert outcome == "adopted"
    (again,) = runs(tmp_path / "adopted")
    assert_same(Records.load(folder.path), again.records())
    for path in (folder.config, folder.cost, folder.log):
        assert (again.folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("side", ["true", "pred"])
@pytest.mark.parametrize("column", [name for names in compact_records.REPLACEABLE for name in names])
def test_a_column_that_does_not_follow_from_others_is_stored(tmp_path, side, column):
    """As of a processor that rounds in another way: the last bit of one number differs."""
    records = drawn(2, 10)
    nuclei = records.nuclei.copy()
    at = np.flatnonzero(nuclei["side"] == side)[-1]
    value = nuclei[column].to_numpy().copy()
    value[at] = value[at] + 1000 if column == "id" else np.nextafter(value[at], value.dtype.type(0))
    overlaps = records.overlaps.copy()
    if column == "id":
        own = overlaps["image"].eq(nuclei["image"][at]) & overlaps[f"{side}_id"].eq(nuclei["id"][at])
        overlaps.loc[own, f"{side}_id"] += 1000
        partner = (
            nuclei["image"].eq(nuclei["image"][at]) & nuclei["side"].ne(side) & nuclei["match"].eq(nuclei["id"][at])
        )
        nuclei.loc[partner, "match"] += 1000
        overlaps = overlaps.sort_values(["image", "true_id", "pred_id"], ignore_index=True)
    changed = Records(records.images, overlaps, nuclei.assign(**{column: value}))
    packed = compact_records.pack(changed)
    assert f"{side} {column}" in packed.kept
    back = compact_records.unpack(packed.truth, packed.own)
    assert_same(Records(**back), changed)


def test_records_of_another_version_keep_their_tables(tmp_path):
    records = squares()
    older = Records(records.images, records.overlaps, records.nuclei.drop(columns="eccentricity"))
    folder = made(tmp_path / "results", older)
    (kept,) = keep(runs(tmp_path / "results"), tmp_path / "kept")
    assert kept.as_it_is == ["all tables: the columns of nuclei are not those of today's records"]
    list(adopt([tmp_path / "kept"], tmp_path / "adopted"))
    for path in folder.records:
        assert (tmp_path / "adopted" / path.relative_to(tmp_path / "results")).read_bytes() == path.read_bytes()


def test_tables_that_contradict_each_other_are_kept_as_they_are():
    records = squares()
    wrong = records.nuclei.assign(iou=records.nuclei["iou"] / 2)
    with pytest.raises(compact_records.NotCompact, match="nuclei would not come out equal"):
        compact_records.pack(Records(records.images, records.overlaps, wrong))


def test_a_run_of_168_images_with_41_nuclei_a_side_takes_at_most_150_kb(tmp_path, capsys):
    """With the scores, configuration and log of a real run of 80 epochs beside the drawn records."""
    records = drawn(168, 41)
    folder = made(tmp_path / "results", records)
    real = RunFolder(ROOT / "docs/reference/embedded/runs/synthetic/cellvta@small/fold1-seed0")
    for path in (real.config, real.provenance, real.cost):
        shutil.copyfile(path, folder.path / path.name)
    folder.log.write_text(4 * real.log.read_text())
    origin = manifest.listed(json.loads(real.provenance.read_text()), removable=[folder.cost, folder.log])
    folder.provenance.write_text(json.dumps(origin, indent=1))
    metrics = json.loads(real.metrics.read_text())
    folder.metrics.write_text(json.dumps(manifest.listed(metrics, [folder.config, *folder.records]), indent=1))
    (kept,) = keep(runs(tmp_path / "results"), tmp_path / "kept")
    before = sum(path.stat().st_size for path in folder.kept)
    with capsys.disabled():
        print(f"\n{len(records.nuclei)} nuclei: {before} bytes before, {kept.size} kept, of them", end=" ")
        print({path.name: path.stat().st_size for path in kept.run.folder(tmp_path / "kept").glob("*.parquet")})
    assert len(records.nuclei) > 2 * 168 * 38 and kept.as_it_is == []
    assert kept.size <= compact.RUN_BYTES == 150_000


def test_long_text_is_compressed_where_the_run_would_be_too_large(tmp_path, monkeypatch):
    folder = made(tmp_path / "results", squares())
    monkeypatch.setattr(compact, "RUN_BYTES", 1)
    contents = []
    for name in ("one", "two"):
        (kept,) = keep(runs(tmp_path / "results"), tmp_path / name)
        cell = kept.run.folder(tmp_path / name)
        names = {path.name for path in cell.iterdir()}
        assert {"log.jsonl.gz", "metrics.json.gz", "config.json"} <= names and "log.jsonl" not in names
        assert kept.size == compact.size(cell)
        contents.append({path.name: path.read_bytes() for path in cell.iterdir()})
    assert contents[0] == contents[1]
    list(adopt([tmp_path / "one"], tmp_path / "adopted"))
    (again,) = runs(tmp_path / "adopted")
    assert (again.folder / "log.jsonl").read_bytes() == folder.log.read_bytes()
    assert again.metrics["protocols"] == json.loads(folder.metrics.read_text())["protocols"]


def test_runs_on_the_same_test_images_share_the_truth(tmp_path):
    true_only = drawn(3, 20, edit=lambda n, t, a, p, b: (t, a, t, a))
    made(tmp_path / "results", drawn(3, 20))
    made(tmp_path / "results", true_only, method="hovernet@small")
    made(tmp_path / "results", drawn(3, 20, seed=1), method="cellvit@small")
    list(keep(runs(tmp_path / "results"), tmp_path / "kept"))
    assert len(list((tmp_path / "kept/_truth").iterdir())) == 2
    shared = {
        path.parent.parent.name: json.loads(path.read_text())["truth"]
        for path in tmp_path.glob("kept/*/*/*/compact.json")
    }
    assert shared["cellvta@small"] == shared["hovernet@small"] != shared["cellvit@small"]


def test_what_an_adopted_run_says(tmp_path):
    folder = made(tmp_path / "results", squares())
    list(keep(runs(tmp_path / "results"), tmp_path / "kept"))
    list(adopt([tmp_path / "kept"], tmp_path / "adopted"))
    (again,) = runs(tmp_path / "adopted")
    kept = tmp_path / "kept/synthetic/cellvta@small/fold1-seed0"
    said = {"adopted": True, "adopted_from": str(kept)}
    old = json.loads(folder.provenance.read_text())
    assert again.provenance.items() >= (old | said).items()
    assert set(again.provenance) - set(old) - set(said) == {"files", "checksum"}
    files, listed = again.metrics["files"], json.loads(folder.metrics.read_text())["files"]
    assert files["weights.safetensors"] == listed["weights.safetensors"], "absent, and what it was"
    assert files["config.json"] == listed["config.json"]
    assert all(manifest.entry(path, "needed") == files[path.name] for path in RunFolder(again.folder).records)
    assert not RunFolder(again.folder).weights.exists()
    with unpacked(tmp_path / "kept") as results:
        (read,) = runs(results)
        assert read.provenance == old, "reading adopts nothing"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(path, **entries):
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps(manifest.listed(content, absent=content["files"])))


DAMAGES = {
    "nuclei": (lambda kept: flip(kept / "nuclei.parquet"), "nuclei.parquet is missing or not what was kept"),
    "log gone": (lambda kept: (kept / "log.jsonl").unlink(), "log.jsonl is missing"),
    "metrics": (lambda kept: flip(kept / "metrics.json"), "metrics.json is missing or not"),
    "list": (lambda kept: flip(kept / "compact.json"), "compact.json"),
    "empty list": (lambda kept: (kept / "compact.json").write_text("{}"), "expected the files of a run"),
    "path": (
        lambda kept: (kept / "compact.json").write_text(
            '{"files": {"../x": {"size": 1, "sha256": "0", "kind": "needed"}}}'
        ),
        "expected the files of a run",
    ),
    "truth": (lambda kept: flip(next(kept.parents[2].glob("_truth/*/nuclei.parquet"))), "nuclei.parquet"),
    "truth gone": (lambda kept: shutil.rmtree(kept.parents[2] / "_truth"), "cannot be read"),
    "truth's name": (lambda kept: rewrite(kept / "compact.json", truth="../../x"), "expected 12 hex digits"),
    "table": (
        lambda kept: rewrite(kept / "compact.json", tables=dict.fromkeys(TABLES, "0")),
        "its table of images does not come out as it was kept",
    ),
    "newer": (lambda kept: rewrite(kept / "compact.json", form=99), "of form 99, this code reads up to 1"),
    "moved": (lambda kept: kept.rename(kept.with_name("fold2-seed0")), "config.json describes"),
    "renamed": (lambda kept: kept.rename(kept.with_name("other")), "is not a run folder"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_kept_run_is_named_and_nothing_is_written(tmp_path, name):
    damage, words = DAMAGES[name]
    made(tmp_path / "results", squares())
    list(keep(runs(tmp_path / "results"), tmp_path / "kept"))
    damage(tmp_path / "kept/synthetic/cellvta@small/fold1-seed0")
    with pytest.raises(InputError, match="this kept run is damaged") as refused:
        list(adopt([tmp_path / "kept"], tmp_path / "adopted"))
    assert words in str(refused.value) and "\n" not in str(refused.value) and "kept/synthetic" in str(refused.value)
    assert not [path for path in (tmp_path / "adopted").rglob("*") if path.is_file()]
    assert not list((tmp_path / "adopted").glob("*/*/*")), "no half-written folder"


def test_nothing_is_adopted_where_one_of_several_is_damaged(tmp_path):
    for method in ("cellvta@small", "hovernet@small"):
        made(tmp_path / "results", squares(), method=method)
    list(keep(runs(tmp_path / "results"), tmp_path / "kept"))
    flip(tmp_path / "kept/synthetic/hovernet@small/fold1-seed0/overlaps.parquet")
    with pytest.raises(InputError, match="hovernet@small/fold1-seed0: this kept run is damaged"):
        list(adopt([tmp_path / "kept"], tmp_path / "adopted"))
    assert not (tmp_path / "adopted").exists()
    assert len(list(adopt([tmp_path / "kept/synthetic/cellvta@small"], tmp_path / "adopted"))) == 1


def test_kept_runs_are_no_results(tmp_path, capsys):
    made(tmp_path / "results", squares())
    list(keep(runs(tmp_path / "results"), tmp_path / "kept"))
    assert runs(tmp_path / "kept") == []
    assert "`python -m benchmark adopt`" in capsys.readouterr().err
