"""The pretext step: labels that mean what they say, a cached deterministic result, and something learnt."""

import hashlib
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources import synthetic
from benchmark.layers.vit import build_backbone
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import read_json
from benchmark.training import pretext, pretrain


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pretrain.ensure("nano", tmp_path_factory.mktemp("cache"), updates=3, progress=False)


def test_labels_of_a_token():
    instances = np.zeros((32, 32), np.int32)
    instances[0:8, 16:24] = 1  # upper left quarter of the upper right token
    instances[20:24, 0:2] = 2
    types = np.array([2, 5], np.uint8)
    labels = pretext.token_labels(pretext.label_planes(Nuclei(instances, types, 0.25)))
    assert labels.shape == (pretext.CHANNELS, 2, 2) and labels.dtype == np.float32
    coverage = labels[pretext.TASKS["coverage"]].reshape(4, 4, 2, 2)
    np.testing.assert_array_equal(coverage[:2, :2, 0, 1], 1)
    assert coverage[..., 0, 1].sum() == 4 and coverage[1, 0, 1, 0] == 0.5 and coverage.sum() == 4.5
    kinds = labels[pretext.TASKS["types"]].reshape(5, 2, 2, 2, 2)
    assert kinds[1, 0, 0, 0, 1] == 1 and kinds[4, 0, 0, 1, 0] == pytest.approx(8 / 64)
    assert kinds.sum() == pytest.approx(1 + 8 / 64)
    centre = labels[pretext.TASKS["centre"]].reshape(4, 4, 2, 2)
    assert centre.sum() == 2 and centre[1, 1, 0, 1] == 1 and centre[1, 0, 1, 0] == 1
    rim = labels[pretext.TASKS["rim"]].reshape(4, 4, 2, 2)
    assert rim[0, 0, 0, 1] == 0 and rim[1, 1, 0, 1] == pytest.approx(7 / 16)
    nothing = pretext.token_labels(pretext.label_planes(Nuclei(instances * 0, types[:0], 0.25)))
    assert not nothing.any()


def test_images_and_labels_move_together():
    patches = pretext.Patches(2, seed=0, first_slide=pretext.FIRST_SLIDE)
    nucleus = patches.planes[:, 0] > 0
    patches.images[:] = np.where(nucleus[..., None], 20, 230)
    images, labels = patches.batch(6, 64, np.random.default_rng(0))
    assert images.shape == (6, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    middle = (images.amax((2, 3), keepdim=True) + images.amin((2, 3), keepdim=True)) / 2
    dark = (images < middle).float().mean(1, keepdim=True)
    cells = torch.nn.functional.avg_pool2d(dark, 4)
    painted = torch.nn.functional.pixel_shuffle(labels[:, pretext.TASKS["coverage"]], 4)
    has_nuclei = painted.amax((1, 2, 3)) > 0
    assert has_nuclei.sum() >= 4
    torch.testing.assert_close(cells[has_nuclei], painted[has_nuclei])


def test_slides_belong_to_no_fold(monkeypatch):
    drawn = []
    real = synthetic.draw
    monkeypatch.setattr(synthetic, "draw", lambda *a, **k: drawn.append(a[1]) or real(*a, **k))
    settings = replace(pretrain.BACKBONES["nano"], updates=1)
    pretrain.train("nano", settings, seed=0, progress=False)
    assert min(drawn) >= 10_000 and len(set(drawn)) == len(drawn) == settings.patches + settings.held_out


def test_weights_fill_the_backbone(made):
    assert made.name == "nano" and made.seconds > 0 and made.path.suffix == ".safetensors"
    filled, fresh = build_backbone("nano", str(made.path)), build_backbone("nano")
    moved = [not torch.equal(a, b) for a, b in zip(filled.parameters(), fresh.parameters())]
    assert np.mean(moved) > 0.8
    figures = read_json(made.path.with_suffix(".json"))
    assert len(figures["losses"]) == 3 and set(figures["held_out"]) == set(pretext.TASKS)
    assert figures["seed"] == 0 and {"torch", "timm"} <= set(figures["versions"])


def test_second_call_reads_the_cache(made, monkeypatch):
    monkeypatch.setattr(pretrain, "train", lambda *a: pytest.fail("trained again"))
    again = pretrain.ensure("nano", made.path.parents[1], updates=3)
    assert again == made


def test_weights_that_are_made_before_the_cells_are_those_of_their_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for threads in (1, 2):
        apart = pretrain.ensure_apart("nano", tmp_path / f"{threads}", 2, threads)
        assert json.loads(apart.path.with_suffix(".json").read_text())["threads"] == threads


def test_a_process_is_started_only_where_there_is_something_to_train(made, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pretrain.workers, "pool", lambda *_: pytest.fail("a process was started"))
        assert pretrain.ensure_apart("nano", made.path.parents[1], 3) == made
    fresh = pretrain.ensure_apart("nano", tmp_path, 3)
    assert fresh.path.read_bytes() == made.path.read_bytes() and fresh.path.parents[1] == tmp_path


def test_damaged_and_half_written_results_are_made_again(made, tmp_path):
    folder = tmp_path / "pretrain"
    folder.mkdir()
    path = folder / made.path.name
    path.write_bytes(made.path.read_bytes()[:-1])
    path.with_suffix(".json").write_bytes(made.path.with_suffix(".json").read_bytes())
    again = pretrain.ensure("nano", tmp_path, updates=3, progress=False)
    assert again.path == path
    # bit-reproducible: the file that replaced the damaged one equals the first
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(made.path.read_bytes()).digest()
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]


def test_concurrent_calls_train_once(tmp_path, monkeypatch):
    calls = []
    real = pretrain.train
    monkeypatch.setattr(pretrain, "train", lambda *a: calls.append(1) or real(*a))
    results = []
    call = lambda: results.append(pretrain.ensure("nano", tmp_path, updates=1, progress=False))  # noqa: E731
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and results[0] == results[1]


def test_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    pretrain.ensure("nano", tmp_path, updates=1, progress=False)
    assert torch.rand(1) == want


def test_key_covers_what_decides():
    keys = {
        pretrain.key("nano"),
        pretrain.key("tiny"),
        pretrain.key("nano", seed=1),
        pretrain.key("nano", updates=7),
    }
    assert len(keys) == 4 and pretrain.key("nano") == pretrain.key("nano", updates=pretrain.BACKBONES["nano"].updates)


def test_something_is_learnt(made):
    settings = replace(pretrain.BACKBONES["nano"], updates=120, held_out=6)
    _, figures = pretrain.train("nano", settings, seed=0, progress=False)
    coverage = figures["held_out"]["coverage"]
    assert coverage["cross_entropy"] < 0.9 * coverage["constant_cross_entropy"] and coverage["r2"] > 0.15
    assert np.mean(figures["losses"][-10:]) < np.mean(figures["losses"][:5])


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'tiny'"):
        pretrain.ensure("tinny", tmp_path)
    with pytest.raises(InputError, match="at least 1"):
        pretrain.ensure("nano", tmp_path, updates=0)
    assert not list(tmp_path.iterdir())


def test_a_longer_pretext_has_more_patches_and_a_shorter_one_as_many():
    default = pretrain.BACKBONES["tiny"]
    longer, shorter = (pretrain.settings_for("tiny", updates) for updates in (4 * default.updates, 10))
    assert (longer.patches, longer.updates) == (4 * default.patches, 4 * default.updates)
    assert (shorter.patches, shorter.updates) == (default.patches, 10)
    assert pretrain.settings_for("tiny") == pretrain.settings_for("tiny", default.updates) == default


def test_half_written_weights_of_a_killed_process_are_removed(tmp_path):
    pretext = tmp_path / "pretrain"
    pretext.mkdir()
    ours = pretext / f".nano-{pretrain.key('nano', updates=1)}.safetensors.1.tmp"
    other = pretext / ".tiny-0123456789abcdef.safetensors.1.tmp"  # perhaps of a live process
    ours.touch(), other.touch()
    pretrain.ensure("nano", tmp_path, updates=1, progress=False)
    assert other.exists() and not ours.exists()
