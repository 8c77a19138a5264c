"""Which runs are kept, and what adopting one does to what lies there already."""

import json

import pytest

from benchmark.results import compact, kept, manifest
from benchmark.results.collect import runs
from benchmark.results.kept import adopt, chosen, keep
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from tests.support.drawn_records import drawn
from tests.support.report_runs import make_run, squares


@pytest.fixture
def results(tmp_path):
    squares().save(tmp_path / "records")
    make_run(tmp_path / "results", tmp_path / "records", "cellvta@small")
    make_run(tmp_path / "results", tmp_path / "records", "classical@small", seed=1)
    return tmp_path / "results"


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(path, **entries):
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != manifest.CHECKSUM}
    path.write_text(json.dumps(content | entries))


def test_runs_are_added_one_by_one(results, tmp_path):
    root = tmp_path / "kept"
    (first,) = keep(chosen(runs(results), methods=["cellvta"]), root)
    before = files(root)
    again = list(keep(runs(results), root))
    assert [(str(one.run), one.new) for one in again] == [
        ("synthetic cellvta@small fold 1 seed 0", False),
        ("synthetic classical@small fold 1 seed 1", True),
    ]
    assert first.new and again[0].size == first.size
    assert files(root).items() > before.items(), "what was there is left as it is"
    assert not list(root.rglob(".*")), "nothing temporary stays"


def test_another_result_takes_the_place_of_an_older_one(results, tmp_path):
    root = tmp_path / "kept"
    list(keep(runs(results), root))
    (old,) = (root / "_truth").iterdir()
    for run in runs(results):
        drawn(2, 10).save(run.folder)
        edit(run.folder / "metrics.json", key="0123")
    assert [one.new for one in keep(runs(results), root)] == [True, True]
    (new,) = (root / "_truth").iterdir()
    assert new.name != old.name, "tables that no run names are gone"
    assert len(list(adopt([root], tmp_path / "adopted"))) == 2


def test_a_damaged_one_is_kept_anew(results, tmp_path):
    root = tmp_path / "kept"
    list(keep(runs(results), root))
    path = root / "synthetic/cellvta@small/fold1-seed0/nuclei.parquet"
    content = path.read_bytes()
    path.write_bytes(b"no")
    assert [one.new for one in keep(runs(results), root)] == [True, False]
    assert path.read_bytes() == content


def test_runs_of_uncommitted_code_are_refused(results, tmp_path):
    edit(results / "synthetic/classical@small/fold1-seed1/provenance.json", dirty="0a1b")
    with pytest.raises(InputError, match=r"classical@small.*uncommitted code"):
        list(keep(runs(results), tmp_path / "kept"))
    assert not (tmp_path / "kept").exists(), "not even the clean one is written"


def test_a_damaged_run_is_not_kept(results, tmp_path):
    (results / "synthetic/cellvta@small/fold1-seed0/nuclei.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="cellvta@small/fold1-seed0: its records cannot be read"):
        list(keep(runs(results), tmp_path / "kept"))
    assert files(tmp_path / "kept") == {} if (tmp_path / "kept").exists() else True


def test_all_that_is_committed_counts_together(results, tmp_path, monkeypatch):
    beside = tmp_path / "docs/reference/other/file"
    beside.parent.mkdir(parents=True)
    beside.write_bytes(bytes(50_000))
    root = tmp_path / "docs/reference/claim"
    list(keep(chosen(runs(results), methods=["cellvta"]), root))
    before = files(root)
    monkeypatch.setattr(kept, "REFERENCE_BYTES", 50_000 + compact.size(root) + 1000)
    with pytest.raises(InputError, match=r"reference would hold 0\.1 MB with synthetic classical@small"):
        list(keep(runs(results), root))
    assert files(root) == before
    monkeypatch.setattr(kept, "REFERENCE_BYTES", 50_000 + 2 * compact.size(root))
    assert [one.new for one in keep(runs(results), root)] == [False, True]


def test_runs_are_chosen_by_their_facts(results):
    complete = runs(results)

    def names(**conditions):
        return [run.id.method for run in chosen(complete, **conditions)]

    assert names() == names(dataset="synthetic") == names(kind="main") == ["cellvta@small", "classical@small"]
    assert names(methods=["classical@small"]) == names(methods=["classical"]) == ["classical@small"]
    assert names(dataset="pannuke") == names(kind="published") == names(preset="mini") == []
    with pytest.raises(InputError, match=r"'celvta'.*Did you mean 'cellvta'"):
        names(methods=["celvta"])


def test_what_is_finished_is_left_alone(results, tmp_path):
    list(keep(runs(results), tmp_path / "kept"))
    list(adopt([tmp_path / "kept"], tmp_path / "adopted"))
    before = files(tmp_path / "adopted")
    edit(tmp_path / "adopted/synthetic/classical@small/fold1-seed1/metrics.json", key="other")
    changed = files(tmp_path / "adopted")
    outcomes = {str(name): outcome for name, outcome in adopt([tmp_path / "kept"], tmp_path / "adopted")}
    assert outcomes == {
        "synthetic cellvta@small fold 1 seed 0": "left alone: it is finished there",
        "synthetic classical@small fold 1 seed 1": "left alone: it is finished there under another key",
    }
    after = files(tmp_path / "adopted")
    assert {path: content for path, content in after.items() if path.name != ".lock"} == changed
    assert before != changed


def test_what_is_unfinished_or_running_is_left_alone(results, tmp_path):
    list(keep(chosen(runs(results), methods=["cellvta"]), tmp_path / "kept"))
    folder = RunFolder(tmp_path / "adopted/synthetic/cellvta@small/fold1-seed0")
    with folder.lock():
        ((_, outcome),) = adopt([tmp_path / "kept"], tmp_path / "adopted")
        assert outcome == "left alone: it is running there" and not folder.complete
    folder.checkpoint.write_bytes(b"half a training")
    ((_, outcome),) = adopt([tmp_path / "kept"], tmp_path / "adopted")
    assert outcome.startswith("left alone: an unfinished run lies there")
    assert folder.checkpoint.read_bytes() == b"half a training" and not folder.complete


@pytest.mark.parametrize("name", ["failed.txt", "metrics.json"])
def test_what_failed_or_is_damaged_is_moved_aside(results, tmp_path, name):
    list(keep(chosen(runs(results), methods=["cellvta"]), tmp_path / "kept"))
    folder = RunFolder(tmp_path / "adopted/synthetic/cellvta@small/fold1-seed0")
    folder.path.mkdir(parents=True)
    (folder.path / name).write_text("it failed")
    ((_, outcome),) = adopt([tmp_path / "kept"], tmp_path / "adopted")
    moved = tmp_path / "adopted/_stale/synthetic/cellvta@small/fold1-seed0-unknown"
    assert outcome == f"adopted; what failed or is damaged there is moved to {moved}"
    assert (moved / name).read_text() == "it failed", "nothing is deleted"
    assert len(runs(tmp_path / "adopted")) == 1 and not folder.failed.exists()
    assert [path.name for path in folder.path.parent.iterdir()] == ["fold1-seed0"]


def test_a_folder_without_kept_runs_is_refused(results, tmp_path):
    for path in (results, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"expected a folder with runs that `keep` wrote, found no compact\.json"):
            list(adopt([path], tmp_path / "adopted"))
