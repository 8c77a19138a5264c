"""Results of several machines in one folder: what is copied, what is kept once, what is named and left."""

import json
import os
import shutil

import pytest

from benchmark.cli import main
from benchmark.results import collect, identity, manifest
from benchmark.results import merge as module
from benchmark.results.merge import merge
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from tests.support.drawn_records import drawn
from tests.support.report_runs import make_run, squares

NAME = "synthetic cellvta@small fold 1 seed 0"
RUN = "synthetic/cellvta@small/fold1-seed0"
PARTS = {"method": "cellvta@small", "method_version": 3, "data": "f1"}


def finished(
    results, records, cpu="Xeon", method="cellvta@small", parts=PARTS, weights=b"learnt", **scores
) -> RunFolder:
    """A run as the harness leaves it: identity, hardware, weights, predictions, and the lists of its files."""
    folder = RunFolder(make_run(results, records, method, **scores))
    folder.weights.write_bytes(weights)
    folder.predictions.write_bytes(b"maps")
    folder.log.write_text('{"epoch": 1}\n')
    provenance = folder.stored(folder.provenance) | {"hardware": {"cpu": cpu, "cores": 2, "gpu": None}}
    folder.provenance.write_text(json.dumps(manifest.listed(provenance, removable=[folder.cost, folder.log])))
    metrics = folder.stored(folder.metrics) | {"identity": parts, "key": identity.key(parts)}
    needed, removable = [folder.config, *folder.records], [folder.weights, folder.predictions]
    folder.metrics.write_text(json.dumps(manifest.listed(metrics, needed, removable)))
    return folder


@pytest.fixture
def records(tmp_path):
    squares().save(tmp_path / "records")
    return tmp_path / "records"


def merged(tmp_path, *names) -> dict[str, tuple[str, str]]:
    """Merge the folders a, b, … into `results`: name of a run -> (what, why)."""
    return {run: (what, why) for run, what, why in merge([tmp_path / name for name in names], tmp_path / "results")}


def content(folder) -> dict:
    """Relative path -> (bytes, time of the last change) of all files below a folder."""
    return {p.relative_to(folder): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def bits(folder) -> dict:
    """The files of a run, without the lock."""
    return {path.name: path.read_bytes() for path in RunFolder(folder).left}


def test_runs_of_two_machines_come_together_and_the_sources_are_only_read(tmp_path, records, capsys):
    one = finished(tmp_path / "a", records)
    two = finished(tmp_path / "b", records, method="classical@small", parts=PARTS | {"method": "classical@small"})
    (two.path / "notes.txt").write_text("mine")
    (two.path / "checkpoint.pt").write_bytes(b"left by a kill")
    before = content(tmp_path / "a"), content(tmp_path / "b")
    words = ["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--results", str(tmp_path / "results")]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{NAME}: merged from {one.path}",
        f"synthetic classical@small fold 1 seed 0: merged from {two.path}",
        f"{tmp_path / 'results'}: 2 merged",
    ]
    assert before == (content(tmp_path / "a"), content(tmp_path / "b"))
    for source, root in ((one.path, tmp_path / "a"), (two.path, tmp_path / "b")):
        expected = {name: data for name, data in bits(source).items() if name != "checkpoint.pt"}
        assert bits(tmp_path / "results" / source.relative_to(root)) == expected
    assert not [path for path in (tmp_path / "results").rglob(".*")], "nothing temporary stays"
    assert main(["verify", "--results", str(tmp_path / "results")]) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count("left alone: it is finished there with the same numbers\n") == 2


def test_the_same_bits_of_another_machine_are_kept_once(tmp_path, records):
    finished(tmp_path / "a", records, cpu="Xeon")
    finished(tmp_path / "b", records, cpu="EPYC", cost={"train_seconds": 1.0})
    kept = tmp_path / "results" / RUN
    assert merged(tmp_path, "a", "b") == {NAME: ("merged", f"merged from {tmp_path / 'a' / RUN}")}
    assert bits(kept) == bits(tmp_path / "a" / RUN), "cost and provenance of one machine, not a mixture"


def test_records_that_another_version_packed_are_the_same_bits(tmp_path, records):
    finished(tmp_path / "results", records)
    other = tmp_path / "repacked"
    other.mkdir()
    for name in ("images", "overlaps", "nuclei"):
        getattr(squares(), name).to_parquet(other / f"{name}.parquet", compression="gzip", index=False)
    finished(tmp_path / "a", other)
    one, two = (tmp_path / where / RUN / "nuclei.parquet" for where in ("results", "a"))
    assert one.read_bytes() != two.read_bytes()
    assert merged(tmp_path, "a")[NAME][0] == "the same there"


@pytest.mark.parametrize("what", ["scores", "records", "predictions"])
def test_other_numbers_are_named_with_their_hardware_and_none_is_chosen(tmp_path, records, capsys, what):
    finished(tmp_path / "a", records, cpu="Xeon")
    finished(tmp_path / "a", records, method="classical@small", parts=PARTS | {"method": "classical@small"})
    if what == "records":
        drawn(2, 10).save(tmp_path / "others")
        records = tmp_path / "others"
    other = finished(tmp_path / "b", records, cpu="EPYC", bpq=0.4 if what == "scores" else 0.5)
    if what == "predictions":
        import numpy as np

        for folder, value in ((other, 1), (RunFolder(tmp_path / "a" / RUN), 2)):
            np.savez(folder.predictions, instances=np.full((1, 2, 2), value))
            folder.list_files()
    words = ["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--results", str(tmp_path / "results")]
    assert main(words) == 1
    line, rest, total = capsys.readouterr().out.splitlines()
    reason = {"scores": "protocols.", "records": "images of the records", "predictions": "predictions"}[what]
    assert line.startswith(f"{NAME}: none is taken: other numbers ({reason}") and "move the others away" in line
    for name, cpu in (("a", "Xeon"), ("b", "EPYC")):
        assert f"{tmp_path / name / RUN} (cores 2, cpu {cpu})" in line
    assert "merged" in rest and total.endswith(": 1 other numbers, 1 merged")
    assert [run.id.method for run in collect.runs(tmp_path / "results")] == ["classical@small"], "the rest is merged"
    # what is in the results already stays
    finished(tmp_path / "results", tmp_path / "records", cpu="Ryzen", bpq=0.3)
    before = content(tmp_path / "results")
    assert main(words) == 1
    assert "left alone: other numbers (" in capsys.readouterr().out
    assert content(tmp_path / "results") == before


def test_another_identity_under_the_same_name_is_named(tmp_path, records):
    finished(tmp_path / "a", records, parts=PARTS | {"method_version": 2})
    finished(tmp_path / "b", records)
    what, why = merged(tmp_path, "a", "b")[NAME]
    assert what == "other identity" and why.startswith("none is taken: other identity (method_version: 2 -> 3): ")
    assert str(tmp_path / "a" / RUN) in why and str(tmp_path / "b" / RUN) in why and "`status` says" in why
    finished(tmp_path / "results", records)
    what, why = merged(tmp_path, "a")[NAME]
    assert why.startswith("left alone: other identity (method_version: 3 -> 2)")


def test_scores_of_two_versions_of_a_protocol_are_not_compared(tmp_path, records):
    finished(tmp_path / "results", records, version=1, bpq=0.4)
    finished(tmp_path / "a", records, version=2, bpq=0.5)
    assert merged(tmp_path, "a")[NAME][0] == "the same there"


def test_unfinished_runs_are_left_and_named(tmp_path, records):
    reasons = {}
    left = [("checkpoint.pt", "partial: its training"), ("failed.txt", "it failed there (OutOfMemory)")]
    for seed, (name, text) in enumerate([*left, ("config.json", "not run there, or it began and did not end")]):
        folder = tmp_path / f"a/synthetic/cellvta@small/fold1-seed{seed}"
        folder.mkdir(parents=True)
        (folder / name).write_text("Traceback\nOutOfMemory\n\n")
        reasons[f"synthetic cellvta@small fold 1 seed {seed}"] = text
    queued = RunFolder(tmp_path / "a/synthetic/cellvta@small/fold1-seed5")
    queued.queue("job 17")
    reasons["synthetic cellvta@small fold 1 seed 5"] = "it is queued there as job 17"
    removed = finished(tmp_path / "a", records, seed=3)
    removed.metrics.unlink()
    reasons["synthetic cellvta@small fold 1 seed 3"] = "it has no metrics.json: it was removed"
    running = finished(tmp_path / "a", records, seed=4)
    reasons["synthetic cellvta@small fold 1 seed 4"] = "it is running there (owner unknown)"
    with running.lock():
        outcomes = merged(tmp_path, "a")
    assert outcomes.keys() == reasons.keys()
    for name, (what, why) in outcomes.items():
        assert what == "unfinished" and why.startswith("left out: ") and reasons[name] in why
    assert not list((tmp_path / "results").rglob("*"))
    assert main(["merge", str(tmp_path / "a"), "--results", str(tmp_path / "results")]) == 0


@pytest.mark.parametrize("name", ["nuclei.parquet", "predictions.npz", "metrics.json", "config.json"])
def test_a_damaged_run_is_named_and_not_copied(tmp_path, records, name, capsys):
    folder = finished(tmp_path / "a", records)
    data = (folder.path / name).read_bytes()
    (folder.path / name).write_bytes(data.replace(data[1:3], b"??", 1))
    assert main(["merge", str(tmp_path / "a"), "--results", str(tmp_path / "results")]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{NAME}: left out: it is damaged: {folder}") and name in out
    assert not list((tmp_path / "results").rglob("*"))
    whole = finished(tmp_path / "b", records)
    outcomes = list(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "results"))
    assert [one.what for one in outcomes] == ["damaged", "merged"] and str(whole.path) in outcomes[1].why


def test_what_is_running_in_the_results_is_left_alone(tmp_path, records):
    finished(tmp_path / "a", records)
    target = RunFolder(tmp_path / "results" / RUN)
    with target.lock():
        target.checkpoint.write_bytes(b"half")
        assert merged(tmp_path, "a") == {NAME: ("left alone", "left alone: it is running there")}
    assert [path.name for path in target.left] == ["checkpoint.pt"]


@pytest.mark.parametrize("same", [True, False])
def test_an_unfinished_run_gives_way_to_a_finished_one_of_its_identity(tmp_path, records, same):
    source = finished(tmp_path / "a", records)
    target = RunFolder(tmp_path / "results" / RUN)
    target.path.mkdir(parents=True)
    target.checkpoint.write_bytes(b"half")
    key = identity.key(PARTS) if same else "0123"
    target.config.write_text(json.dumps({"key": key}))
    what, why = merged(tmp_path, "a")[NAME]
    if same:
        moved = tmp_path / "results/_stale" / f"{RUN}-{key}"
        assert why == f"merged from {source.path}; the unfinished run there is moved to {moved}"
        assert (moved / "checkpoint.pt").read_bytes() == b"half" and bits(target.path) == bits(source.path)
    else:
        assert what == "left alone" and "unfinished run of another identity" in why
        assert target.checkpoint.read_bytes() == b"half" and not target.complete


@pytest.mark.parametrize("name", ["failed.txt", "overlaps.parquet"])
def test_what_failed_or_is_damaged_in_the_results_is_moved_aside(tmp_path, records, name):
    source = finished(tmp_path / "a", records)
    target = tmp_path / "results" / RUN
    if name == "failed.txt":
        target.mkdir(parents=True)
    else:
        finished(tmp_path / "results", records)
    (target / name).write_bytes(b"no")
    what, why = merged(tmp_path, "a")[NAME]
    assert what == "merged" and "; what failed or is damaged there is moved to " in why
    assert bits(target) == bits(source.path)
    (moved,) = (tmp_path / "results/_stale").rglob(name)
    assert moved.read_bytes() == b"no"


def test_what_was_removed_is_filled_in_from_another_copy_of_the_same_file(tmp_path, records):
    finished(tmp_path / "a", records).weights.unlink()
    finished(tmp_path / "b", records, cpu="EPYC")
    what, why = merged(tmp_path, "a", "b")[NAME]
    assert what == "merged" and why.endswith(
        f"; weights.safetensors, which was removed there, is taken from {tmp_path / 'b' / RUN}"
    )
    target = RunFolder(tmp_path / "results" / RUN)
    assert target.weights.read_bytes() == b"learnt"
    target.weights.unlink()
    finished(tmp_path / "c", records, weights=b"otherwise")
    what, why = merged(tmp_path, "c")[NAME]
    assert why.endswith(f"; weights.safetensors was removed there, that of {tmp_path / 'c' / RUN} is another")
    assert not target.weights.exists()
    with target.lock():
        assert merged(tmp_path, "b")[NAME][1].endswith("not filled in: it is running there")
    assert merged(tmp_path, "b")[NAME][0] == "the same there" and target.weights.read_bytes() == b"learnt"


def test_files_that_only_another_copy_stored_are_named(tmp_path, records):
    finished(tmp_path / "results", records)
    other = finished(tmp_path / "a", records)
    other.raw_maps(0).write_bytes(b"maps")
    other.list_files()
    assert merged(tmp_path, "a")[NAME][1].endswith(f"; maps-0.npz of {other} is no part of it")


@pytest.mark.parametrize("at", ["copy", "swap"])
def test_killed_and_started_again_it_continues(tmp_path, records, monkeypatch, at):
    source = finished(tmp_path / "a", records)
    target = tmp_path / "results" / RUN
    ended = pytest.raises(KeyboardInterrupt)
    with monkeypatch.context() as patch, ended:
        if at == "copy":
            copied, copy = [], shutil.copyfile

            def half(path, to):
                copied.append(copy(path, to))
                if len(copied) == 3:
                    raise KeyboardInterrupt

            patch.setattr(module.shutil, "copyfile", half)
        else:
            rename = os.rename

            def once(path, to):
                rename(path, to)
                raise KeyboardInterrupt

            patch.setattr(os, "rename", once)
        patch.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # a kill tidies nothing up
        merged(tmp_path, "a")
    left = [path.name for path in target.parent.iterdir()]
    assert any(name.endswith(".tmp") for name in left) and not RunFolder(target).complete
    assert merged(tmp_path, "a")[NAME][0] == "merged" and bits(target) == bits(source.path)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_kept_runs_and_what_was_moved_aside_are_named(tmp_path, records, capsys):
    finished(tmp_path / "a", records)
    kept = tmp_path / "a/synthetic/kept@small/fold1-seed0"
    kept.mkdir(parents=True)
    (kept / "compact.json").write_text("{}")
    (tmp_path / "a/_stale").mkdir()
    assert merged(tmp_path, "a").keys() == {NAME}
    err = capsys.readouterr().err
    assert f"skipped {kept}: a run in compact form; `python -m benchmark adopt`" in err
    assert f"skipped {tmp_path / 'a/_stale'}: what was moved aside is not merged" in err


def test_what_is_no_folder_of_another_machine_is_refused(tmp_path, records):
    finished(tmp_path / "a", records)
    finished(tmp_path / "results", records, method="classical@small")
    (tmp_path / "empty").mkdir()
    for path, sentence in (
        (tmp_path / "nowhere", "expected a folder of results, found none there"),
        (tmp_path / "empty", "with runs in <dataset>/<method>/<run>, found none"),
        (tmp_path / "results", r"it is \(a part of\)"),
        (tmp_path / "results/synthetic", r"it is \(a part of\)"),
    ):
        with pytest.raises(InputError, match=sentence):
            list(merge([tmp_path / "a", path], tmp_path / "results"))
    assert not (tmp_path / "results" / RUN).exists(), "nothing is written before all are looked at"
