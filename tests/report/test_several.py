"""Records of several runs scored as one are scored as each by itself, to the last bit."""

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records, Several, alike
from benchmark.report import read_runs
from benchmark.report.select.observations import image_frame, image_scores
from benchmark.report.select.store import Store
from benchmark.report.stats.sizes import FRAMES, size_scores
from benchmark.results.collect import runs
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import write_json
from tests.support.drawn_records import drawn
from tests.support.label_maps import EMPTY, HALF, TRUE, four
from tests.support.report_runs import make_run, squares

# from eight types on, numpy adds up those of one image in another order than those of images side by side
NINE = [f"class {k}" for k in range(9)]
CROWDED = {"nuclei": 12, "shape": (96, 96)}


def some_untyped(number, true, true_types, pred, pred_types):
    """Every third nucleus without a type; in image 1 the predictions are absent, in image 2 the truth is."""
    true, pred = true * (number != 2), pred * (number != 1)
    true_types, pred_types = (
        types[: labels.max()] * (np.arange(labels.max()) % 3 > 0)
        for types, labels in ((true_types, true), (pred_types, pred))
    )
    return true, true_types, pred, pred_types


def far_ids(number, true, true_types, pred, pred_types):
    """Ids with gaps, of which float32 and 32 bits hold only some."""
    far = np.where(pred > 0, pred.astype(np.int64) + 2**33 * (pred % 3 == 0) + 2**24, 0)
    return 3 * true, true_types, far, pred_types


def covered() -> Records:
    """A nucleus over the whole image, found; and an image without any pair."""
    whole = np.ones_like(TRUE)
    matches = [match(whole, [1], whole, [1], mpp=0.5), match(TRUE, [1, 2, 1], EMPTY, [], mpp=0.5)]
    return Records.collect(matches, [{"image": i, "tissue": "Skin"} for i in range(2)])


def half() -> Records:
    return Records.collect([match(TRUE, [1, 1, 2], HALF, [2, 0, 2], mpp=0.5)] * 2, [{"image": i} for i in range(2)])


SETS = {
    "drawn": lambda: drawn(4, **CROWDED),
    "others": lambda: drawn(5, seed=1, **CROWDED),
    "untyped truth": lambda: drawn(3, seed=2, typed=False, **CROWDED),
    "untyped predictions": lambda: drawn(3, seed=3, pred_typed=False, **CROWDED),
    "some without type": lambda: drawn(4, seed=4, edit=some_untyped, **CROWDED),
    "far ids": lambda: drawn(3, seed=5, edit=far_ids, **CROWDED),
    "empty sides": four,
    "typed in part": lambda: four(typed=[True, False, True, True], pred_typed=[True, True, False, True]),
    "empty": lambda: Records.collect([match(EMPTY, [], EMPTY, [], mpp=1)] * 2, [{"image": i} for i in (4, 7)]),
    "covered": covered,
    "one image": lambda: drawn(1, seed=6, classes=9, **CROWDED),
    "nine classes": lambda: drawn(2, seed=7, classes=9, **CROWDED),
    "half": half,
}
CLASSES = {"one image": NINE, "nine classes": NINE, "others": NINE, "covered": ["one", "two"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A finished run of each of SETS and again the first, of two data sets."""
    folder = tmp_path_factory.mktemp("several")
    for number, (name, make) in enumerate([*SETS.items(), ("again", SETS["drawn"])]):
        make().save(folder / name)
        data = {"dataset": "synthetic" if number % 4 else "other"}
        classes = CLASSES.get(name, ["a", "b", "c", "d", "e"])
        run = RunFolder(make_run(folder / "results", folder / name, seed=number, classes=classes, **data))
        write_json(run.metrics, run.stored(run.metrics) | {"key": name})
        run.list_files()
    return folder / "results"


def equal(frame: pd.DataFrame, expected: pd.DataFrame, name: str) -> None:
    assert frame.index.tolist() == list(range(len(frame))), name
    pd.testing.assert_frame_equal(frame, expected, check_exact=True, check_index_type=False, obj=name)


def same_scores(complete, store: Store) -> int:
    """How many runs of these have frames in the store; each is compared with what is computed of the run alone."""
    known = 0
    for run in complete:
        frames = store.frames(run)
        known += bool(frames)
        alone = Store()
        for name in frames:
            if name.startswith("images-"):
                expected = image_scores(run, name.removeprefix("images-"), alone)
            else:
                size_scores(run, alone)
                expected = alone.frames(run)[name]
            equal(frames[name], expected, f"{run.metrics['key']}: {name}")
        assert not frames or {f"images-{p}" for p in PROTOCOLS} | set(FRAMES) == set(frames)
    return known


@pytest.mark.parametrize("rows", [1, 300, 1 << 16])
def test_runs_scored_as_one_have_the_scores_of_each(results, monkeypatch, rows):
    joined = []
    monkeypatch.setattr(read_runs, "Several", lambda parts: joined.append(len(parts)) or Several(parts))
    monkeypatch.setattr(read_runs, "ROWS", rows)
    complete, store = runs(results), Store()
    read_runs.read_runs(complete, list(PROTOCOLS), store)
    assert same_scores(complete, store) == len(complete) == len(SETS) + 1
    assert sum(joined) == {1: 0, 1 << 16: 11}.get(rows, sum(joined)), "all but the odd ones"


@pytest.mark.parametrize("table", ["images", "overlaps", "nuclei"])
def test_a_damaged_run_harms_no_other(tmp_path, results, capsys, table):
    complete, store = runs(results), Store()
    (damaged,) = (run for run in complete if run.metrics["key"] == "some without type")
    path = damaged.folder / f"{table}.parquet"
    content = path.read_bytes()
    wrong = bytearray(content)
    wrong[len(wrong) // 2] ^= 1
    try:
        path.write_bytes(wrong)
        read_runs.read_runs(complete, list(PROTOCOLS), store)
        assert not store.frames(damaged) and capsys.readouterr().err == ""
        assert same_scores(complete, store) == len(complete) - 1
    finally:
        path.write_bytes(content)


def test_a_run_that_cannot_be_scored_harms_no_other(results, monkeypatch):
    def fails(self, records, n_classes):
        if (records.columns.images["image_id"] == "im2").any():
            raise ValueError("an image that this protocol does not take")
        return scores(self, records, n_classes)

    scores = type(PROTOCOLS["clean"]).image_scores
    monkeypatch.setattr(type(PROTOCOLS["clean"]), "image_scores", fails)
    complete, store = runs(results), Store()
    read_runs.read_runs(complete, list(PROTOCOLS), store)
    assert same_scores(complete, store) == len(complete) - 2


def test_a_protocol_that_looks_at_the_whole_set_gets_one_set_at_a_time(results, monkeypatch):
    monkeypatch.setattr(PROTOCOLS["clean"], "by_image", False, raising=False)
    monkeypatch.setattr(read_runs, "Several", None)
    complete, store = runs(results), Store()
    read_runs.read_runs(complete, list(PROTOCOLS), store)
    assert same_scores(complete, store) == len(complete)


def test_odd_records_stay_alone():
    plain = alike(four())
    assert plain == alike(squares()) and plain is not None
    assert alike(SETS["one image"]()) is None and alike(Records.collect([], [])) is None
    assert alike(SETS["far ids"]()) not in (plain, None), "ids of 64 bits are joined with such only"
    unnamed = four()
    unnamed = Records(unnamed.images.assign(source=[None, "a", "b", "c"]), unnamed.overlaps, unnamed.nuclei)
    assert alike(unnamed) is None


def test_the_tables_of_several_are_those_of_records_joined():
    parts = [four(), squares()]
    several, joined = Several(parts), Records.join(parts)
    for name in ("images", "overlaps", "nuclei"):
        pd.testing.assert_frame_equal(getattr(several, name), getattr(joined, name))
    columns, expected = several.columns, joined.columns
    assert columns.n == expected.n and several.set_of_image.tolist() == [0] * 4 + [1] * 2
    for name in ("image", "pixels", "true", "pred", "true_type", "pred_type"):
        np.testing.assert_array_equal(getattr(columns, name), getattr(expected, name), err_msg=name)
    for side in ("true", "pred"):
        for name, values in columns.side[side].items():
            np.testing.assert_array_equal(values, expected.side[side][name], err_msg=f"{side} {name}")
    assert columns.images["image"].tolist() == [0, 3, 6, 9, 0, 1]


def test_frames_of_a_set_alone_and_in_company():
    """What `read_runs` relies on, without files."""
    parts = [SETS[name]() for name in ("drawn", "untyped truth", "empty sides", "empty", "covered", "half")]
    several = Several(parts)
    for protocol in PROTOCOLS:
        whole = image_frame(several, protocol, 5)
        alone = pd.concat([image_frame(part, protocol, 5) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(whole, alone, check_exact=True)
    for compute in FRAMES.values():
        alone = pd.concat([compute(part) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(compute(several), alone, check_exact=True)
