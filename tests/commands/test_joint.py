"""Trained on several data sets at once: `transfer` end to end, killed and resumed, and what is refused before."""

import json

import pytest

from benchmark.cli import main
from benchmark.results.collect import runs
from tests.support import joint_sets
from tests.support.kills import content
from tests.support.processes import kill_after
from tests.support.tiny_data import TINY

SHORT = ("recipe.pretrain=0", "recipe.epochs=1", "recipe.samples=4")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two sets of patches with some classes in common."""
    root = tmp_path_factory.mktemp("sets")
    return joint_sets.folder(root / "one", "one", 4), joint_sets.folder(root / "two", "two", 3, slide=80)


@pytest.fixture
def transfer(tmp_path, cache, capsys):
    """transfer(*words) -> (exit code, stdout, stderr) on the processor, at scale debug."""

    def call(*words):
        line = ["transfer", "--method", "cellvta", "--preset", "debug", "--device", "cpu", *SHORT]
        line += ["--results", tmp_path / "results", "--reports", tmp_path / "reports", "--cache", cache, *words]
        code = main([str(word) for word in line])
        return code, *capsys.readouterr()

    return call


def joined(folders) -> str:
    return "+".join(f"folder:{folder}" for folder in folders)


def test_trained_on_two_tested_on_each(transfer, tmp_path, folders):
    words = ("--train", joined(folders), "--test", *(f"folder:{folder}" for folder in folders))
    code, out, err = transfer(*words)
    assert code == 0, err
    assert "one+two: one has no Stroma, Dead" in err and "one+two: two has no Tumour" in err
    assert "one+two -> one: 0 of 4 test images are known" in err and "one+two -> two: 0 of 3 test images" in err
    stored = {run.id.dataset: run for run in runs(tmp_path / "results")}
    assert {name: run.id.kind for name, run in stored.items()} == {
        "one+two": "main",
        "one": "evaluated",
        "two": "evaluated",
    }
    trained = stored["one+two"]
    assert trained.config["sets"] == ["one", "two"]
    assert trained.config["classes"] == ["Tumour", "Inflammatory", "Stroma", "Dead"]
    assert (trained.metrics["n_images"], trained.metrics["n_untyped"]) == (7, 7)
    scores = trained.metrics["protocols"]["cellvit"]
    assert scores["bPQ"] is not None and scores["mPQ"] is None, "no image has the truth of all classes"
    (line,) = [json.loads(text) for text in (trained.folder / "log.jsonl").read_text().splitlines()]
    of_sets = line["val_bPQ_of"]
    assert list(of_sets) == ["one", "two"] and line["val_bPQ"] == pytest.approx(sum(of_sets.values()) / 2)
    for name, classes in joint_sets.CLASSES.items():
        entry = stored[name].config["transfer"]
        assert entry["trained"]["dataset"] == "one+two" and entry["classes"] == list(classes)
        assert stored[name].metrics["protocols"]["cellvit"]["mPQ"] is not None
    text = out.replace("\n", " ")
    assert "one+two → one: 1 run, 4 test images; mPQ over Tumour, Inflammatory" in text
    code, again, err = transfer(*words)
    assert (code, again) == (0, out) and err.count("already done") == 3


@pytest.mark.parametrize("method", ["classical@debug", "cellvta@debug"])
def test_sets_of_one_stored_size_and_two_resolutions(method, tmp_path, cache, capsys):
    """64 px at 0.25 and at 0.5 µm/px: the test sides meet in a batch, which the network sees as 64 and as 128 px."""
    names = joint_sets.folder(tmp_path / "one", "one"), joint_sets.folder(tmp_path / "two", "two", slide=80, mpp=0.5)
    line = ["run", "--method", method, "--dataset", joined(names), "--device", "cpu", *SHORT, "recipe.crop=64"]
    code = main([*line, "--results", str(tmp_path / "results"), "--cache", str(cache)])
    assert code == 0, capsys.readouterr().err
    (run,) = runs(tmp_path / "results")
    assert run.metrics["n_images"] == 4 and run.metrics["identity"]["resampling"] == "bilinear-nearest"


def test_equal_shares_are_another_run(transfer, tmp_path, folders):
    """The choice stands in the run's name, its recipe and its identity."""
    words = ("--train", joined(folders), "--test", f"folder:{folders[0]}", "recipe.shares=equal")
    code, _, err = transfer(*words)
    assert code == 0, err
    (run,) = [run for run in runs(tmp_path / "results") if run.id.kind == "main"]
    assert "recipe.shares=equal" in run.id.method
    assert run.metrics["identity"]["recipe"]["shares"] == "equal"


def test_resumed_equals_unbroken(benchmark_command, tmp_path, folders):
    words = ["--dataset", joined(folders), "--method", "cellvta@debug,drop_path=0.3", "recipe.shares=equal"]
    words += ["recipe.epochs=6", "recipe.samples=24", "recipe.eval_every=2", "recipe.workers=1", "recipe.pretrain=0"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = benchmark_command("run", *words, results=whole)
    assert done.returncode == 0, done.stderr
    (folder,) = [path.parent for path in whole.rglob("metrics.json")]
    twin = broken / folder.relative_to(whole)
    kill_after(benchmark_command("run", *words, results=broken, wait=False), twin / "log.jsonl", 2)
    assert not (twin / "metrics.json").exists() and (twin / "checkpoint.pt").exists()
    again = benchmark_command("run", *words, results=broken)
    assert again.returncode == 0 and "resuming after epoch" in again.stderr, again.stderr
    for name in ("metrics.json", "weights.safetensors", "overlaps.parquet", "images.parquet", "nuclei.parquet"):
        assert (folder / name).read_bytes() == (twin / name).read_bytes(), name
    assert content(folder / "card.md") == content(twin / "card.md") != ""


def bad(folders, tmp_path):
    one, _ = folders
    train = ("--train", joined(folders), "--test")
    other = joint_sets.folder(tmp_path / "other", "two", slide=120)
    return {
        "tested on several": ((*train, f"folder:{one}+{TINY}"), "--test folder:", "are tested on one by one"),
        "another set of one name": ((*train, f"folder:{other}"), "two data sets go by the name 'two'", "docs/transfer"),
        "a split it lacks": ((*train, TINY, "--fold", "2"), "FOLD=2", "has the published splits 1"),
        "another split of a set": (
            ("--train", f"{TINY}+synthetic@patches=6,seed=1", "--test", TINY, "--test-fold", "2"),
            f"trains on {TINY} with FOLD=1",
            "use --test-fold 1",
        ),
    }


@pytest.mark.parametrize(
    "name", ["tested on several", "another set of one name", "a split it lacks", "another split of a set"]
)
def test_bad_input_is_one_sentence_before_anything_is_trained(name, transfer, tmp_path, folders):
    words, *says = bad(folders, tmp_path)[name]
    code, _, err = transfer(*words)
    assert code == 2 and all(part in err for part in says), err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [err.splitlines()[-1]]
    assert not list((tmp_path / "results").rglob("*.json")), "nothing trained"


def test_evaluate_knows_what_joint_weights_were_trained_on(transfer, tmp_path, folders, cache, capsys):
    assert transfer("--train", joined(folders), "--test", TINY)[0] == 0
    (run,) = [run for run in runs(tmp_path / "results") if run.id.kind == "main"]
    line = ["evaluate", "--weights", run.folder, "--out", tmp_path / "out", "--cache", cache, "--device", "cpu"]

    def evaluate(*words):
        code = main([str(word) for word in (*line, *words)])
        return code, capsys.readouterr()

    code, printed = evaluate("--dataset", joined(folders))
    assert (
        code == 2
        and "weights are tested on one data set at a time; name one of those that one+two joins" in printed.err
    )
    code, printed = evaluate("--dataset", "folder", "--data-root", folders[1])
    assert code == 0, printed.err
    (run,) = runs(tmp_path / "out")
    assert run.config["classes"] == list(joint_sets.CLASSES["two"])


def test_other_commands_take_several_sets_or_say_why_not(folders, tmp_path, cache, capsys):
    def call(*words):
        code = main([str(word) for word in words])
        return code, capsys.readouterr()

    code, printed = call("prepare", "--dataset", joined(folders), "--cache", cache)
    assert code == 0 and "one+two: folds 1 (4 images)" in printed.out and "FOLD=1 can be run" in printed.out
    code, printed = call("prepare", "--dataset", joined(folders), "--cache", cache, "--classes", "4")
    assert code == 2 and "joins several data sets; write classes=4 behind the one it is for" in printed.err
    code, printed = call("prepare", "--dataset", "monuseg+consep", "--cache", cache, "--download")
    assert code == 2 and "--download fetches one data set at a time" in printed.err
    code, printed = call("contact-sheet", "--dataset", joined(folders), "--cache", cache, "--out", tmp_path / "x.png")
    assert code == 0 and (tmp_path / "x.png").exists(), printed.err
