"""`keep` and `adopt` from end to end: a grid of real runs is kept, adopted elsewhere, and is done there."""

import json
import re
import shutil

import pytest

from benchmark.cli import main
from benchmark.methods.registry import method_class
from benchmark.metrics.records import Records
from benchmark.results import compact_records, manifest
from benchmark.results.run_folder import RunFolder, run_folders
from tests.support.tiny_data import TINY


@pytest.fixture(scope="module")
def kept(ablation, tmp_path_factory):
    """(results of the ablation as of committed code, folder that `keep` wrote)."""
    path = tmp_path_factory.mktemp("keep")
    shutil.copytree(ablation.results, path / "results")
    for folder in run_folders(path / "results"):
        provenance = json.loads(folder.provenance.read_text()) | {"dirty": None}
        folder.provenance.write_text(json.dumps(manifest.listed(provenance, removable=[folder.cost, folder.log])))
    words = ["keep", "--results", str(path / "results"), "--out", str(path / "kept"), "--dataset", TINY]
    assert main(words) == 0
    return path / "results", path / "kept"


def test_kept_runs_are_done_where_they_are_adopted(kept, ablation, command_here, tmp_path, capsys):
    results, committed = kept
    assert main(["adopt", str(committed), "--results", str(tmp_path / "results")]) == 0
    out = capsys.readouterr().out
    assert out.count(": adopted\n") == 2 and out.endswith(f"2 of 2 runs adopted into {tmp_path / 'results'}\n")
    status = command_here("status", *ablation.words[:3], "recipe.epochs=1", results=tmp_path / "results")
    lines = [" ".join(line.split()) for line in status.stdout.splitlines()]
    assert lines == [
        f"done {TINY} decoder_only@debug,recipe.epochs=1 fold 1 seed 0 predictions, weights removed",
        f"done {TINY} classical@debug fold 1 seed 0 predictions removed",
        "2 done",
    ]
    again = command_here("ablation", *ablation.words, results=tmp_path / "results")
    assert "Nothing to run: 2 of 2 cells are done" in again.stderr
    assert main(["verify", "--results", str(tmp_path / "results")]) == 0
    assert re.findall("^whole .* removed$", capsys.readouterr().out, re.M)
    for folder in run_folders(results):
        other = RunFolder(tmp_path / "results" / folder.path.relative_to(results))
        one, two = Records.load(folder.path), Records.load(other.path)
        for name in ("images", "overlaps", "nuclei"):
            assert compact_records.digest(getattr(one, name)) == compact_records.digest(getattr(two, name))


def test_adopted_runs_give_the_same_tables(kept, tmp_path, capsys):
    results, committed = kept
    main(["adopt", str(committed), "--results", str(tmp_path / "results")])
    capsys.readouterr()
    texts = []
    for folder in (results, tmp_path / "results"):
        words = ["--dataset", TINY, "--results", str(folder), "--reports", str(tmp_path / "reports")]
        assert main(["table", "--protocol", "all", *words]) == 0
        texts.append(capsys.readouterr().out)
        texts.append({path.name: path.read_bytes() for path in (tmp_path / "reports").rglob("*.csv")})
        shutil.rmtree(tmp_path / "reports")
    assert "decoder_only" in texts[0] and texts[:2] == texts[2:]


def test_an_adopted_run_of_another_version_is_stale(kept, ablation, command_here, tmp_path, monkeypatch):
    main(["adopt", str(kept[1]), "--results", str(tmp_path)])
    monkeypatch.setattr(method_class("classical"), "version", 99)
    status = command_here("status", *ablation.words[:3], "recipe.epochs=1", results=tmp_path)
    assert re.search(r"^done .*decoder_only", status.stdout, re.M)
    assert re.search(r"^stale .*classical.* method_version: \d+ -> 99$", status.stdout, re.M)


def test_a_damaged_kept_run_is_one_sentence(kept, tmp_path, capsys):
    shutil.copytree(kept[1], tmp_path / "kept")
    path = next((tmp_path / "kept").glob("*/decoder*/*/overlaps.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["adopt", str(tmp_path / "kept"), "--results", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(path.parent) in error and "overlaps.parquet" in error
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


def test_what_keep_prints(kept, tmp_path, capsys, monkeypatch):
    results, _ = kept
    words = ["keep", "--results", str(results), "--out", str(tmp_path / "kept")]
    monkeypatch.setattr("benchmark.results.compact.RUN_BYTES", 100)
    assert main([*words, "--methods", "classical", "--preset", "debug"]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(
        rf"kept {TINY} classical@debug fold 1 seed 0: \d+ KB\n1 of 1 runs newly kept in .*\n", captured.out
    )
    assert re.search("^large: .*classical@debug", captured.err, re.M)
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("there ")
    for more, sentence in (
        (["--kind", "published"], "None of the 2 finished runs"),
        (["--methods", "x"], "of method 'x'"),
    ):
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["keep", "--results", str(tmp_path / "none"), "--out", str(tmp_path / "kept")]) == 2
    assert "No complete runs" in capsys.readouterr().err
