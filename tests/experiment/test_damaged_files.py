"""Files of a finished run that were removed or damaged: named, replaced by a new run, or never used."""

import json
import shutil

import pytest

from benchmark.cli import main
from benchmark.experiment.grid import cells
from benchmark.experiment.launch import run_missing
from benchmark.experiment.state import state_of
from benchmark.metrics.records import TABLES
from benchmark.results import load, manifest
from benchmark.results.collect import runs
from benchmark.results.raw_maps import StoredMaps
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.training import pretrain
from benchmark.weights.recognise import recognise
from tests.support.grids import setup

NEEDED = ["config.json", *(f"{name}.parquet" for name in TABLES)]
REMOVABLE = ["weights.safetensors", "predictions.npz"]


@pytest.fixture
def cell(ablation, cache, tmp_path):
    """The finished cell of a trained method, in results of its own."""
    (cell,) = cells(setup(tmp_path / "results", cache), ["decoder_only"])
    (stored,) = cells(setup(ablation.results, cache), ["decoder_only"])
    shutil.copytree(stored.folder.path, cell.folder.path)
    return cell


def flip(path, at=0.6):
    """Flip one bit; the size stays."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def verified(cell, capsys):
    """(exit status, printed line) of `verify`."""
    capsys.readouterr()
    status = main(["verify", str(cell.folder)])
    return status, capsys.readouterr().out


def test_metrics_list_every_file_that_is_the_same_in_each_repetition(cell):
    files = manifest.files_of(json.loads(cell.folder.metrics.read_text()))
    kinds = {name: entry["kind"] for name, entry in files.items()}
    assert kinds == dict.fromkeys(NEEDED, "needed") | dict.fromkeys(REMOVABLE, "removable")
    others = {"metrics.json", "provenance.json"}
    left = {p.name for p in cell.folder.path.iterdir() if not p.name.startswith(".")} - others
    assert cell.folder.files.keys() == left >= {"log.jsonl", "cost.json"}
    for name, entry in cell.folder.files.items():
        path = cell.folder.path / name
        assert (entry["size"], entry["sha256"]) == (path.stat().st_size, manifest.digest(path))


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("damage", ["unlink", "shorten", "empty"])
def test_a_needed_file_that_is_missing_or_short_is_a_failed_cell(cell, capsys, name, damage):
    """`status` said done and `ablation` that there was nothing to run."""
    path = cell.folder.path / name
    {"unlink": path.unlink, "shorten": lambda: shorten(path), "empty": lambda: path.write_bytes(b"")}[damage]()
    state = state_of(cell)
    assert state.name == "failed" and state.why.startswith(f"{name} ")
    assert runs(cell.setup.results) == [] and name in capsys.readouterr().err
    status, line = verified(cell, capsys)
    assert status == 1 and line.startswith("damaged ") and name in line


def test_a_failed_cell_is_run_anew(cell):
    (cell.folder.path / "nuclei.parquet").unlink()
    assert run_missing([cell]) == 0
    assert state_of(cell) == ("done", "") and len(runs(cell.setup.results)) == 1


@pytest.mark.parametrize("name", [f"{table}.parquet" for table in TABLES])
def test_changed_records_are_not_read(cell, capsys, name):
    flip(cell.folder.path / name)
    (run,) = runs(cell.setup.results)
    with pytest.raises(ValueError, match=f"{name}: its content is not what the run wrote"):
        run.records()
    with pytest.raises(InputError, match=name):
        load(cell.folder.path)
    status, line = verified(cell, capsys)
    assert status == 1 and name in line


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_changed_description_makes_no_run(cell, capsys, name):
    path = cell.folder.path / name
    old, new = {"config.json": ('"mpp": 0.25', '"mpp": 0.35'), "metrics.json": ('"val_bPQ": ', '"val_bPQ": 1')}[name]
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    assert runs(cell.setup.results) == [] and name in capsys.readouterr().err
    assert verified(cell, capsys)[0] == 1
    assert (state_of(cell).name == "failed") == (name == "metrics.json")


def test_a_changed_cost_is_left_out(cell, capsys):
    content = cell.folder.cost.read_text()
    cell.folder.cost.write_text(content.replace('"params": ', '"params": 9'))
    (run,) = runs(cell.setup.results)
    assert run.cost == {} and "cost.json" in capsys.readouterr().err
    assert verified(cell, capsys)[0] == 1


def test_a_run_reduced_to_its_needed_files_is_complete(cell, capsys):
    for name in REMOVABLE:
        (cell.folder.path / name).unlink()
    assert state_of(cell) == ("done", "predictions, weights removed")
    (run,) = runs(cell.setup.results)
    assert len(run.records().images)
    status, line = verified(cell, capsys)
    assert status == 0 and line.startswith("whole ") and "weights.safetensors" in line
    shorten_weights = cell.folder.weights
    shorten_weights.write_bytes(b"no")
    assert state_of(cell) == ("done", "predictions removed; weights damaged")


def test_damaged_weights_are_never_used(cell, capsys):
    recognise(cell.folder.weights)
    flip(cell.folder.weights)
    with pytest.raises(InputError, match=r"weights\.safetensors: its content is not what the run wrote \(SHA-256"):
        recognise(cell.folder.weights)
    setup = cell.setup
    words = ["--dataset", setup.dataset, "--cache", str(setup.cache), "--results", str(setup.results)]
    run = ["run", "--method", "decoder_only", "--preset", "debug", "--keep-maps", "recipe.epochs=1", "--device", "cpu"]
    assert main([*run, *words]) == 2
    assert "weights.safetensors: its content" in capsys.readouterr().err
    assert not cell.folder.all_raw_maps and state_of(cell).name == "done"


def test_damaged_predictions_are_never_used(cell, tmp_path, capsys):
    flip(cell.folder.predictions)
    words = ["--dataset", cell.setup.dataset, "--cache", str(cell.setup.cache), "--out", str(tmp_path / "sheet.png")]
    assert main(["contact-sheet", "--run", str(cell.folder), *words]) == 2
    assert "predictions.npz: its content is not what the run wrote" in capsys.readouterr().err
    predictions = str(cell.folder.predictions)
    assert main(["score", "--true", predictions, "--pred", predictions, "--mpp", "0.25"]) == 2
    assert "predictions.npz: its content is not what the run wrote" in capsys.readouterr().err


def test_raw_maps_that_are_added_later_are_listed_and_compared(cell, command_here):
    before = cell.folder.files
    words = ("--method", "decoder_only", "--keep-maps", "recipe.epochs=1")
    done = command_here("run", *words, results=cell.setup.results)
    assert done.returncode == 0, done.stderr
    after = cell.folder.files
    assert after.keys() - before.keys() == {"maps-0.npz"} and before.items() <= after.items()
    assert StoredMaps(cell.folder).images and state_of(cell) == ("done", "")
    flip(cell.folder.raw_maps(0))
    with pytest.raises(InputError, match=r"maps-0\.npz: its content is not what the run wrote"):
        StoredMaps(cell.folder)
    done = command_here("run", *words, results=cell.setup.results)  # predicted once more
    assert done.returncode == 0 and StoredMaps(cell.folder).images and cell.folder.files == after


def test_runs_without_a_list_are_read_as_before(cell, capsys):
    metrics = json.loads(cell.folder.metrics.read_text())
    del metrics["files"], metrics["checksum"]
    cell.folder.metrics.write_text(json.dumps(metrics))
    assert state_of(cell) == ("done", "")
    (run,) = runs(cell.setup.results)
    assert len(run.records().images)
    status, line = verified(cell, capsys)
    assert status == 0 and line.startswith("unlisted ")


def test_verify_takes_all_runs_below_the_results(cell, ablation, tmp_path, capsys):
    assert main(["verify", "--results", str(ablation.results)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["whole", "whole"]
    assert main(["verify", "--results", str(tmp_path / "none")]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 2
    assert "expected the folder of a finished run" in capsys.readouterr().err


def test_files_of_an_unfinished_run_are_not_compared(cell):
    cell.folder.metrics.unlink()
    flip(cell.folder.log)
    assert RunFolder(cell.folder.path).files == {}
    cell.folder.check(cell.folder.log, cell.folder.weights)


@pytest.mark.parametrize("name", ["metrics.json", "provenance.json"])
def test_a_list_that_is_damaged_is_named_rather_than_believed(cell, name):
    """Where metrics.json could not be read its list counted as empty, and weights were used without a comparison."""
    path = cell.folder.path / name
    content = path.read_text()
    digest = (cell.folder.files["weights.safetensors"] if name == "metrics.json" else cell.folder.files["log.jsonl"])[
        "sha256"
    ]
    for damaged in (content.replace(digest, digest[::-1]), content[:-3], "[]"):
        path.write_text(damaged)
        listed = cell.folder.weights if name == "metrics.json" else cell.folder.log
        with pytest.raises(manifest.Damaged, match=f"{name}: "):
            cell.folder.check(listed)
        if name == "metrics.json":
            with pytest.raises(InputError, match=r"metrics\.json: "):
                recognise(cell.folder.weights)
        else:
            cell.folder.check(cell.folder.weights)  # provenance.json does not list it


def test_a_run_whose_metrics_are_gone_is_named(cell, capsys):
    cell.folder.metrics.unlink()
    assert runs(cell.setup.results) == []
    assert "it has no metrics.json" in capsys.readouterr().err
    assert state_of(cell) == ("missing", "began and did not end (no metrics.json, no checkpoint.pt); starts anew")


def test_predictions_of_a_run_are_scored_by_its_folder(cell, ablation, capsys):
    (other,) = cells(setup(ablation.results, cell.setup.cache), ["classical"])
    words = ["score", "--true", str(other.folder), "--mpp", "0.25", "--pred"]
    assert main([*words, str(cell.folder)]) == 0
    by_folder = capsys.readouterr().out
    assert main([*words, str(cell.folder.predictions)]) == 0 and capsys.readouterr().out == by_folder
    flip(cell.folder.predictions)
    assert main([*words, str(cell.folder)]) == 2
    assert "predictions.npz: its content is not what the run wrote" in capsys.readouterr().err
    cell.folder.predictions.unlink()
    assert main([*words, str(cell.folder)]) == 2
    assert "expected a finished run with its predictions, it has no predictions.npz" in capsys.readouterr().err
    cell.folder.metrics.unlink()
    assert main([*words, str(cell.folder)]) == 2 and "it has no metrics.json" in capsys.readouterr().err


def test_prepared_data_with_other_bytes_are_prepared_again_by_all_that_read_them(cell, tmp_path, capsys):
    """A flipped bit of the truth gave `import` and `postprocess` other scores."""
    own = tmp_path / "cache"  # of this data set alone
    words = ["--dataset", cell.setup.dataset, "--cache", str(own)]
    assert main(["prepare", *words]) == 0
    words += ["--fold", "1"]
    sheet = ["contact-sheet", *words, "--out", str(tmp_path / "sheet.png")]
    pred = ["import", "--name", "tool", "--pred", str(cell.folder), "--results", str(tmp_path / "imported"), *words]
    for path in sorted(own.glob("synthetic-fold*/instances.npy")):
        whole = path.read_bytes()
        for line in (sheet, pred):
            flip(path)
            assert main(line) == 0
            assert f"{path.parent} is damaged and is prepared again" in capsys.readouterr().err
            assert path.read_bytes() == whole


def test_what_a_kill_after_storing_left_is_removed(cell):
    """The owner's name, or a checkpoint, stayed beside the result for ever."""
    cell.folder.owner.write_text("host pid 1")
    cell.folder.checkpoint.write_bytes(b"")
    with cell.folder.lock():  # its owner is alive and about to remove them
        assert run_missing([cell]) == 0 and cell.folder.owner.exists() and cell.folder.checkpoint.exists()
    assert run_missing([cell]) == 0
    assert not cell.folder.owner.exists() and not cell.folder.checkpoint.exists()


def test_figures_of_the_pretext_that_were_changed_are_not_believed(tmp_path):
    first = pretrain.ensure("nano", tmp_path, updates=1, progress=False)
    figures, weights = first.path.with_suffix(".json"), first.path.read_bytes()
    content = json.loads(figures.read_text())
    figures.write_text(json.dumps(content | {"seconds": content["seconds"] + 100}))
    again = pretrain.ensure("nano", tmp_path, updates=1, progress=False)
    assert again.seconds < 100 and first.path.read_bytes() == weights


def test_the_log_of_an_unfinished_run(cell):
    cell.folder.metrics.unlink()
    cell.folder.checkpoint.write_bytes(b"")
    cell.folder.config.write_text(json.dumps({"key": cell.key}))
    assert state_of(cell).why == "1 of 1 epochs; resumes"
    shorten(cell.folder.log)
    shorten(cell.folder.log)
    assert state_of(cell).why.startswith("log.jsonl cannot be read")
    cell.folder.log.unlink()
    assert state_of(cell).why == "log.jsonl is missing; resumes from its checkpoint"
