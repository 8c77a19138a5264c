"""The README's results follow from the committed records, and only from committed, clean runs."""

import json
import shutil

import pytest

from benchmark.experiment.config import load
from benchmark.experiment.grid import cells
from benchmark.experiment.setup import Setup
from benchmark.report import readme
from benchmark.report.build import build
from benchmark.report.write import write_tables
from benchmark.results.compact import RUN_BYTES, kept_runs, size
from benchmark.results.identity import differing
from benchmark.results.kept import REFERENCE_BYTES, unpacked
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support.report_runs import make_run, squares

KEPT = ROOT / "docs" / "reference" / "embedded"


def test_readme_is_rebuilt_from_the_committed_records():
    methods = [f"{m}@small" for m in load("main").methods]
    expected = readme.section(KEPT, methods, KEPT.relative_to(ROOT).as_posix())
    assert readme.between(ROOT / "README.md") == expected
    for method in methods:
        assert (KEPT / "runs/synthetic" / method / "fold1-seed0/metrics.json").is_file(), method


def test_committed_runs_are_those_of_today_s_code(tmp_path):
    """What the README shows is what the code makes; only the data, which are not prepared here, are taken on trust."""
    setup = Setup("synthetic", None, "small", "main", tmp_path, tmp_path)
    for cell in cells(setup):
        stored = json.loads((cell.run.folder(KEPT / "runs") / "metrics.json").read_text())["identity"]
        now = json.loads(json.dumps(cell.identity)) | {"data": stored["data"]}
        assert differing(stored, now) == [], cell.run


def test_committed_tables_follow_from_the_committed_records(tmp_path):
    methods = [f"{m}@small" for m in load("main").methods]
    with unpacked(KEPT / "runs") as results:
        write_tables(results, tmp_path, experiment_methods=methods, dataset="synthetic")
    for name in ("main-cellvit.csv", "claim.csv", "sizes.csv", "types-cellvit.csv", "significance.csv"):
        assert (tmp_path / "synthetic/main-small" / name).read_text() == (KEPT / name).read_text(), name


def test_committed_runs_take_little_space():
    assert size(KEPT.parent) <= REFERENCE_BYTES == 25_000_000
    assert all(size(kept) <= RUN_BYTES for kept in kept_runs(KEPT.parent))


@pytest.fixture
def made(tmp_path):
    squares().save(tmp_path / "records")
    folder = make_run(tmp_path / "results", tmp_path / "records", "cellvta@small")
    build(tmp_path / "results", tmp_path / "reports", tmp_path / "no cache")
    out = tmp_path / "reports/synthetic/main-small"
    shutil.copyfile(out / "pq_by_size.png", out / "examples.png")
    return tmp_path, folder


def test_keep_and_put(made):
    path, _ = made
    (path / "README.md").write_text("before <!-- results -->old<!-- /results --> after")
    readme.keep(path / "results", path / "reports", path / "kept")
    text = readme.section(path / "kept", ["cellvta@small"], "kept")
    readme.put(path / "README.md", text)
    content = (path / "README.md").read_text()
    assert content.startswith("before ") and content.endswith(" after") and "old" not in content
    assert "| cellvta" in content and "0.500" in content and "](kept/pq_by_size.png)" in content
    assert not list((path / "kept").rglob("*.safetensors")) and not list((path / "kept").rglob("*.npz"))


def test_the_section_begins_with_what_the_table_cannot_show(made):
    path, folder = made
    readme.keep(path / "results", path / "reports", path / "kept")
    first = readme.section(path / "kept", ["cellvta@small"], "kept").partition("\n")[0]
    assert first.startswith("This table ranks how fast the methods learn") and "nuclei yet" not in first  # F1 0.4
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["protocols"]["cellvit"]["F1_Inflammatory"] = 0.05
    (folder / "metrics.json").write_text(json.dumps(metrics))
    shutil.rmtree(path / "kept")
    readme.keep(path / "results", path / "reports", path / "kept")
    first = readme.section(path / "kept", ["cellvta@small"], "kept").partition("\n")[0]
    assert "no method recognises Inflammatory nuclei yet (F1 at most 0.1)" in first


def test_only_clean_runs_of_one_commit_are_kept(made):
    path, folder = made
    told = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps(told | {"dirty": True}))
    with pytest.raises(InputError, match="uncommitted"):
        readme.keep(path / "results", path / "reports", path / "kept")
    with pytest.raises(InputError, match="no complete run"):
        readme.keep(path / "absent", path / "reports", path / "kept")
    (folder / "provenance.json").write_text(json.dumps(told))
    (path / "reports/synthetic/main-small/examples.png").unlink()
    with pytest.raises(InputError, match="make report"):
        readme.keep(path / "results", path / "reports", path / "kept")
    assert not (path / "kept").exists()
