"""A data set is fetched when it is asked for and its licence is accepted; what fails is one sentence and no folder."""

import errno

import huggingface_hub
import pytest

from benchmark.cli import main
from tests.support import parquet_files
from tests.support.tiny_data import fold_arrays

LICENCE = "cc-by-nc-sa-4.0"


def prepare(tmp_path, *words, name="pannuke"):
    cache = tmp_path / "home" / "cache"
    return main(["prepare", "--dataset", name, "--cache", str(cache), "--download", *map(str, words)])


@pytest.fixture
def asked(monkeypatch):
    """Calls of huggingface_hub.snapshot_download, which writes PanNuke's three folds in its place."""
    calls = []

    def snapshot_download(repo_id, *, repo_type, local_dir, allow_patterns):
        calls.append((repo_id, repo_type, local_dir, allow_patterns))
        for fold in (1, 2, 3):
            images, masks, _ = fold_arrays(3, seed=fold)
            path = parquet_files.Path(local_dir) / "data" / f"fold{fold}-00000-of-00001.parquet"
            parquet_files.as_masks(path, images, masks[..., :5], [3] * 3)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_it_is_fetched_prepared_and_named_once_its_licence_is_accepted(tmp_path, asked, capsys):
    assert prepare(tmp_path, "--accept", LICENCE) == 0
    root = tmp_path / "home" / "data" / "pannuke"
    assert asked == [("RationAI/PanNuke", "dataset", str(root), ["*.parquet", "README.md"])]
    out = capsys.readouterr().out
    assert "licence: CC BY-NC-SA 4.0 (cc-by-nc-sa-4.0); https://" in out and "RationAI/PanNuke (833 MB)" in out
    assert f"DATA_ROOT={root}\n" in out and "pannuke: folds 1 (3 images), 2 (3 images), 3 (3 images)" in out
    assert prepare(tmp_path, "--accept", LICENCE, "--data-root", tmp_path / "mine") == 0
    assert asked[1][2] == str(tmp_path / "mine")


@pytest.mark.parametrize(("words", "state"), [((), "no ACCEPT"), (("--accept", "yes"), "ACCEPT=yes")])
def test_without_the_licence_it_is_shown_and_nothing_is_fetched(tmp_path, asked, capsys, words, state):
    assert prepare(tmp_path, *words) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("PanNuke: Gamper et al.") and "licence: CC BY-NC-SA 4.0" in out
    assert err.startswith("error: PanNuke is downloaded once its licence is accepted, found " + state)
    assert "make prepare DATASET=pannuke DOWNLOAD=1 ACCEPT=cc-by-nc-sa-4.0" in err and err.count("\n") == 1
    assert not asked and not (tmp_path / "home").exists()


def test_a_set_that_no_hub_has_and_one_that_is_the_users(tmp_path, asked, capsys):
    assert prepare(tmp_path, name="lizard") == 2
    err = capsys.readouterr().err
    assert "get the published files from https://warwick.ac.uk" in err and f"into '{tmp_path}/home/data/lizard'" in err
    assert prepare(tmp_path, name="folder") == 2 and "Nothing is known of where to get" in capsys.readouterr().err
    assert prepare(tmp_path, name="monusegg") == 2 and "Did you mean 'monuseg'" in capsys.readouterr().err
    assert not asked


def test_a_full_disk_is_named_as_such(tmp_path, monkeypatch, capsys):
    def full(*words, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert prepare(tmp_path, "--accept", LICENCE) == 2
    assert "failed (No space left on device): free some space" in capsys.readouterr().err


def test_without_a_network_one_sentence_says_what_to_do(tmp_path, benchmark_command):
    """The real huggingface_hub, whose hub is a port of this machine where nothing listens."""
    words = ("--dataset", "monuseg", "--cache", tmp_path / "cache", "--download", "--accept", LICENCE)
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    done = benchmark_command("prepare", *words, results=None, data=False, environment=hub)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "MoNuSeg cannot be had from the Hugging Face hub (" in line and "RationAI/MoNuSeg (51 images)" in line
    assert f"by hand into '{tmp_path / 'data' / 'monuseg'}'" in line and "monuseg.grand-challenge.org" in line
    assert "Traceback" not in done.stderr and not (tmp_path / "data").exists()
