"""Help with an example for every command; bad input gives one sentence and exit code 2, nothing half-written."""

import os
import subprocess
import sys

import pytest
import torch

from benchmark.cli import main, parser
from benchmark.runtime.distributed import resolve
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT


def commands():
    (sub,) = [a for a in parser()._actions if hasattr(a, "choices") and isinstance(a.choices, dict)]
    return sub.choices


@pytest.mark.parametrize("name", commands())
def test_help_shows_an_example_that_parses(name):
    text = commands()[name].format_help()
    (line,) = [row for row in text.splitlines() if row.startswith("example: python -m benchmark ")]
    parser().parse_args(line.removeprefix("example: python -m benchmark ").split())


TINY = ("--dataset", "synthetic@patches=1")
CHEAP = ("--device", "cpu", "recipe.pretrain=0")
BAD = {
    "unknown method": (["run", "--method", "celvta"], "Did you mean 'cellvta'"),
    "unknown row": (["run", "--method", "cellvta@smal"], "Did you mean 'small'"),
    "unknown argument": (["run", "--method", "cellvta@small,pionts=8"], "Did you mean 'points'"),
    "unknown dataset": (["run", "--method", "cellvta", "--dataset", "panuke"], "Did you mean 'pannuke'"),
    "dataset argument": (
        ["run", "--method", "cellvta", "--dataset", "synthetic@patch=3"],
        "Did you mean 'patches'",
    ),
    "misspelt override": (["run", "--method", "cellvta", "recipe.epoch=3"], "Did you mean 'epochs'"),
    "no override": (["run", "--method", "cellvta", "epochs=3"], "not an override"),
    "fold 4": (["run", "--method", "cellvta", "--fold", "4"], "FOLD=4"),
    "folds in words": (["ablation", "--folds", "one"], "expected numbers"),
    "unknown experiment": (["ablation", "--experiment", "mian"], "Did you mean 'main'"),
    "shard": (["ablation", "--shard", "1"], "expected i/n"),
    "no GPU": (
        ["run", "--method", "classical", "--preset", "debug", "--device", "tpu"],
        "expected auto, cpu, cuda",
    ),
    "no CUDA": (["run", "--method", "classical", "--preset", "debug", *TINY, "--device", "cuda:7"], "CUDA"),
    "huge seed": (["run", "--method", "classical", "--seed", str(2**63)], "below 2^63"),
    "mps for all": (["ablation", "--preset", "debug", "--device", "mps"], "expected auto, cpu, cuda"),
    "negative seed": (["run", "--method", "classical", "--seed", "-1"], "SEED=-1"),
    "argument of another kind": (["run", "--method", "cellvta@debug,points=abc"], "expected a value like 2"),
    "argument out of range": (
        ["run", "--method", "cellvta@debug,width=-1", *TINY, *CHEAP],
        "expected a number above 0",
    ),
    "fixed argument": (["run", "--method", "decoder_only@debug,tune=full"], "tune is what defines decoder_only"),
    "augmentation": (["run", "--method", "cellvta", "recipe.augment=foo"], "recipe.augment is 'foo'"),
    "samples": (["run", "--method", "cellvta", "recipe.samples=-4"], "recipe.samples is -4"),
    "learning rate": (["run", "--method", "cellvta", "recipe.optimiser.lr=-1"], "a number above 0"),
    "betas": (
        ["run", "--method", "cellvta", "recipe.optimiser.betas=(2,2)"],
        "two numbers in [0, 0.999999], such as (0.9,0.95)",
    ),
    "flag for a number": (["run", "--method", "cellvta", "recipe.epochs=True"], "a whole number of at least 1"),
    "schedule": (["run", "--method", "cellvta", "recipe.schedule.name=linear"], "one of cosine"),
    "no published recipe": (["run", "--method", "cellvta", "--experiment", "published"], "has no published recipe"),
    "missing data root": (
        ["run", "--method", "classical", "--dataset", "pannuke", "--data-root", "/nowhere/at/all"],
        "/nowhere/at/all",
    ),
    "no data root": (["run", "--method", "classical", "--dataset", "pannuke"], "DATA_ROOT="),
    "backbone file": (
        ["run", "--method", "cellvta@paper", "--backbone", "/nowhere/uni.bin"],
        "/nowhere/uni.bin",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_code_2(name, tmp_path, capsys):
    arguments, says = BAD[name]
    words = [
        *arguments[:1],
        "--results",
        str(tmp_path / "results"),
        "--cache",
        str(tmp_path / "cache"),
        *arguments[1:],
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and says in lines[0], error
    assert "Traceback" not in error
    assert not list((tmp_path / "results").rglob("*.json")), "nothing half-written"


def test_a_file_where_the_results_folder_should_be(tmp_path, capsys):
    (tmp_path / "results").write_text("not a folder")
    assert main(["run", "--method", "classical", "--results", str(tmp_path / "results")]) == 2
    assert "expected a folder for results, found a file" in capsys.readouterr().err


def test_a_write_that_fails_midway(tmp_path, capsys, monkeypatch, cache):
    import numpy as np

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device", str(tmp_path / "predictions.npz"))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)  # of predictions.npz
    words = ["run", "--method", "classical", "--preset", "debug", "--dataset", "synthetic@patches=6"]
    assert main([*words, "--results", str(tmp_path), "--cache", str(cache), "--device", "cpu"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list(tmp_path.rglob("metrics.json")) and not list(tmp_path.rglob("*.tmp"))


def test_a_gpu_beyond_those_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="cuda:2 was asked for, but there are 2"):
        resolve("cuda:2")


def test_module_entry_point():
    done = subprocess.run([sys.executable, "-m", "benchmark", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "example: python -m benchmark ablation" in done.stdout


SLIPS = {
    "choice": (["table", "--format", "csw"], "Did you mean 'csv'"),
    "preset": (["run", "--method", "cellvta", "--preset", "smal"], "Did you mean 'small'"),
    "command": (["scor"], "Did you mean 'score'"),
    "number": (["run", "--method", "cellvta", "--fold", "x"], "argument --fold: invalid int value: 'x'"),
    "missing": (["score", "--true", "here"], "required: --pred"),
    "misspelt where required": (["score", "--ture", "x", "--pred", "y"], "know '--ture'. Did you mean '--true'?"),
    "seed": (["ablation", "--seeds", "0", "x"], "argument --seeds: invalid int value: 'x'"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_in_an_option_is_one_line(name, capsys):
    arguments, says = SLIPS[name]
    with pytest.raises(SystemExit) as left:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and line.startswith("error: ") and says in line and "--help" in line


def test_an_unknown_option_is_one_line_with_the_nearest_one(capsys):
    assert main(["run", "--method", "cellvta", "--data-rot", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 'run' does not know '--data-rot'. Did you mean '--data-root'?")


def test_arguments_without_a_row_are_explained(capsys):
    assert main(["run", "--method", "cellvta,points=8"]) == 2
    assert "expected method@row,key=value" in capsys.readouterr().err


def test_a_package_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the Python package 'torch' is not installed for ") and "go through make" in error


def test_a_report_of_nothing_is_an_error_and_prints_nothing(tmp_path, capsys):
    for command in (["table", "--format", "csv"], ["table", "--dataset", "foo"], ["report"]):
        assert main([*command, "--results", str(tmp_path), "--reports", str(tmp_path / "reports")]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith("error: No complete runs")


def test_what_a_run_says_of_a_method_without_encoder(tmp_path, capsys, cache):
    words = ["--preset", "debug", "--dataset", "synthetic@patches=6", "--results", str(tmp_path), "--cache", str(cache)]
    assert main(["run", "--method", "classical", *words, "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "0 parameters" in told.out + told.err and "backbone" not in told.out + told.err


def test_a_contact_sheet_never_joins_a_run_with_other_images(tmp_path, capsys, cache):
    given = ["--dataset", "synthetic@patches=6", "--cache", str(cache)]
    words = ["--preset", "debug", *given, "--results", str(tmp_path), "--device", "cpu"]
    assert main(["run", "--method", "classical", *words]) == 0
    folder = next(tmp_path.rglob("metrics.json")).parent
    sheet = ["contact-sheet", "--run", str(folder), "--count", "2", "--out", str(tmp_path / "sheet.png"), *given]
    for wrong in (["--fold", "3"], ["--side", "val"], ["--dataset", "synthetic@patches=6,seed=1"]):
        assert main([*sheet, *wrong]) == 2
        assert "name the --dataset, --data-root and --fold of the run" in capsys.readouterr().err
        assert not (tmp_path / "sheet.png").exists()
    assert main(sheet) == 0 and (tmp_path / "sheet.png").exists()


def completed(tmp_path, line: str, **environment) -> tuple[int, list[str]]:
    """(exit code, words) that a shell receives for a line whose end is to be completed."""
    path = tmp_path / "words"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "PYTHONPATH": str(ROOT)}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(path), "_ARGCOMPLETE_IFS": "\n"} | environment
    done = subprocess.run([sys.executable, "-m", "benchmark"], env=os.environ | asked, cwd=ROOT, timeout=300)
    return done.returncode, [word.strip() for word in path.read_text().split("\n")] if path.exists() else []


def test_a_shell_is_told_how_a_line_may_go_on(tmp_path):
    pytest.importorskip("argcomplete", reason="argcomplete is not installed: only its absence is tested")
    assert completed(tmp_path, "benchmark tra") == (0, ["track", "transfer"])
    assert completed(tmp_path, "benchmark track --log") == (0, ["--logdir"])
    assert set(completed(tmp_path, "benchmark track --to ")[1]) >= {"tensorboard", "wandb", "mlflow"}


def test_without_argcomplete_nothing_runs_when_a_shell_asks(tmp_path):
    (tmp_path / "argcomplete.py").write_text("raise ImportError")
    paths = f"{tmp_path}{os.pathsep}{ROOT}"
    assert completed(tmp_path, "benchmark models", PYTHONPATH=paths) == (1, [])
