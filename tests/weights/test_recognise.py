"""Officially published files: each layout loads to the same weights; what a file is not is said in one sentence."""

import os
import pathlib
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from benchmark.layers import weights_file
from benchmark.representations.named import REPRESENTATIONS
from benchmark.results import manifest
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import write_json
from benchmark.training import loop
from benchmark.training.checkpoint import save_weights
from benchmark.weights.fit import load_official, other_split, remarks
from benchmark.weights.recognise import Facts, recognise
from tests.support.official_files import TISSUES, built, config, published_state, save_cellvit, save_hovernet

HOVERNET = "hovernet@debug,dense=8"  # fewer dense units need layers that the published network lacks
ARCH = {"cellvta@debug": "CellViTUNIAdapter", "cellvit@debug": "CellViT256"}


def write(path, text: str, layout: str):
    """A file of a method's published layout; returns (path, the method that it was made from)."""
    method = built(text, seed=1)
    state = published_state(method)
    if layout == "plain":
        torch.save(state, path)
    elif layout == "safetensors":
        path = path.with_suffix(".safetensors")
        safetensors.torch.save_file({k: v.clone() for k, v in state.items()}, path)
    elif layout in ("training", "inference"):
        save_cellvit(path, state, ARCH[text], training=layout == "training")
    else:
        save_hovernet(path, state, layout)
    return path, method


LAYOUTS = [(text, layout) for text in ARCH for layout in ("training", "inference", "plain", "safetensors")]
LAYOUTS += [(HOVERNET, layout) for layout in ("trained", "converted", "plain", "safetensors")]


@pytest.mark.parametrize(("text", "layout"), LAYOUTS)
def test_every_layout_loads_to_the_same_weights(text, layout, tmp_path):
    path, source = write(tmp_path / "model.pth", text, layout)
    method = built(text, seed=2)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    facts = load_official(method, path)
    assert (facts.method, facts.classes) == (text.partition("@")[0], 5)
    assert facts.tissues == (0 if text.startswith("hovernet") else TISSUES)
    after, wanted = method.state_dict(), source.state_dict()
    assert all(torch.equal(after[k], wanted[k]) for k in wanted)
    assert any(not torch.equal(before[k], wanted[k]) for k in wanted)
    side = method.input_side(64)
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(method(images).values(), source(images).values()))


WRAPPERS = ["_orig_mod.", "module._orig_mod.", "model.", "model._orig_mod.", "module.model."]
WRAPPERS += ["net.", "network.", "ema.module.", "student."]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_names_that_wrappers_put_before_every_entry_are_removed(prefix, tmp_path):
    """As torch.compile, DDP and Lightning save a model, by torch.save or as safetensors."""
    source = built("cellvit@debug", seed=1)
    state = {prefix + key: value for key, value in published_state(source).items()}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    safetensors.torch.save_file({key: value.clone() for key, value in state.items()}, tmp_path / "a.safetensors")
    for name in ("a.ckpt", "a.safetensors"):
        method = built("cellvit@debug", seed=2)
        facts = load_official(method, tmp_path / name)
        assert facts.method == "cellvit" and f"keys begin with '{prefix}'" in facts.layout
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in method.state_dict().items())
    mixed = state | {"another.weight": torch.zeros(1)}
    torch.save(mixed, tmp_path / "mixed.pth")
    facts = load_official(built("cellvit@debug", seed=2), tmp_path / "mixed.pth")
    assert facts.left_out == ("another.weight",)
    assert "The entry 'another.weight' of the file is no part of the network and not read." in remarks(
        facts, "pannuke", 0.25, TISSUES
    )


def test_two_networks_in_one_file_are_not_chosen_from(tmp_path):
    state = published_state(built("cellvit@debug", seed=1))
    both = {f"{prefix}.{key}": value for prefix in ("student", "ema.module") for key, value in state.items()}
    torch.save(both, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"found 2, whose entries begin with 'ema\.module\.' and 'student\.'; save"):
        recognise(tmp_path / "a.pth")


def test_a_file_that_was_packed_again_is_read(tmp_path):
    """Mapped, its compressed bytes were taken for values that are not finite."""
    path, source = write(tmp_path / "model.pth", "cellvit@debug", "plain")
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    method = built("cellvit@debug", seed=2)
    load_official(method, tmp_path / "b.pth")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in method.state_dict().items())


def test_weights_apart_from_their_run_say_where_the_rest_stands(tmp_path):
    """They were said to have unexpected entries, and that rows help, which cannot be known without the classes."""
    save_weights(tmp_path / "weights.safetensors", built("cellvit@debug", seed=1))
    with pytest.raises(InputError, match=r"its classes and arguments stand in the config\.json of its run; give"):
        load_official(built("cellvit@debug", 0, 0), tmp_path / "weights.safetensors")


def test_a_run_whose_weights_were_removed(tmp_path):
    folder = RunFolder(tmp_path)
    save_weights(folder.weights, built("cellvit@debug", seed=1))
    config = {"dataset": "synthetic", "method": "cellvit@debug", "fold": 1, "seed": 0}
    write_json(folder.config, config)
    write_json(folder.metrics, manifest.listed({}, [folder.config], [folder.weights]))
    folder.weights.unlink()
    again = "--dataset synthetic --method cellvit@debug --fold 1 --seed 0"
    for path in (tmp_path, folder.weights):
        with pytest.raises(InputError, match=rf"its weights were removed .* run it again with {again}\."):
            recognise(path)
    write_json(folder.metrics, manifest.listed({}, [folder.config]))
    with pytest.raises(InputError, match="expected a run that stored weights, this one did not"):
        recognise(tmp_path)


def test_the_folder_of_a_run_stands_for_its_weights(tmp_path):
    source = built("cellvit@debug", seed=1)
    save_weights(RunFolder(tmp_path).weights, source)
    method = built("cellvit@debug", seed=2)
    assert load_official(method, tmp_path).path == RunFolder(tmp_path).weights
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("text", ["cellvta@debug", "cellvit@debug", "decoder_only@debug", "full_finetune@debug"])
@pytest.mark.parametrize("instances", REPRESENTATIONS)
def test_weights_of_every_representation_come_back(text, instances, tmp_path):
    text = f"{text},instances={instances}"
    source, method = built(text, seed=1), built(text, seed=2)
    save_weights(RunFolder(tmp_path).weights, source)
    load_official(method, tmp_path)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in method.state_dict().items())


def test_weights_of_another_representation_are_refused(tmp_path):
    save_weights(RunFolder(tmp_path).weights, built("cellvta@debug", seed=1))
    with pytest.raises(InputError, match=r"does not fit this cellvta: \d+ of \d+ entries are missing \(such as"):
        load_official(built("cellvta@debug,instances=flows"), tmp_path)


def test_facts_of_a_training_file(tmp_path):
    path, _ = write(tmp_path / "model_best.pth", "cellvta@debug", "training")
    _, facts = recognise(path)
    assert (facts.split, facts.evidence, facts.trained) == (1, "its configuration", (1, 2))
    assert (facts.arch, facts.dataset, facts.mean) == ("CellViTUNIAdapter", "pannuke", (0.5, 0.5, 0.5))
    assert len(facts.sha256) == 64 and facts.name == "model_best.pth"
    assert "cellvta, 5 types, 19 tissues, of pannuke split 1" == facts.title


def test_normalisation_of_the_file_is_taken_over(tmp_path):
    settings = config(**{"transformations.normalize.mean": [0.7, 0.5, 0.6]})
    path = save_cellvit(tmp_path / "a.pth", published_state(built("cellvit@debug")), "CellViT256", settings)
    method = built("cellvit@debug")
    load_official(method, path)
    assert method.mean == (0.7, 0.5, 0.6) and method.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("train", "val", "name", "split"),
    [
        (0, 1, "a.pth", 1),
        (1, 0, "a.pth", 2),
        (2, 1, "a.pth", 3),
        (2, 1, "CellVTA_UNI_pannuke_split1.pth", 3),  # the configuration counts, not the name
        ([0, 1, 2], [], "a.pth", None),
        (None, None, "CellVTA_UNI_pannuke_split2.pth", 2),
        (None, None, "CellVTA_UNI_pannuke.pth", None),
    ],
)
def test_folds_of_a_file(train, val, name, split, tmp_path):
    settings = {} if train is None else config(train, val)
    path = save_cellvit(tmp_path / name, published_state(built("cellvta@debug")), "CellViTUNIAdapter", settings)
    _, facts = recognise(path)
    assert facts.split == split
    assert other_split(facts, "conic", 1) == ""
    for fold in (1, 2, 3):
        why = other_split(facts, "pannuke", fold)
        if split:
            assert (why == "") == (fold == split)
            # splits 1 and 2 share the test fold, which split 3 trains on, and split 3 tests on what 1 and 2 saw
            assert ("has seen" in why) == ((fold == 3) != (split == 3))
        elif train:
            assert f"has seen fold {(3, 3, 1)[fold - 1]}" in why
        else:
            assert why == "" and "may have seen the test images" in remarks(facts, "pannuke", 0.25, 19)[0]


def test_remarks_on_other_data(tmp_path):
    path = save_cellvit(tmp_path / "CellViT-x20.pth", published_state(built("cellvit@debug")), "CellViT256")
    said = " ".join(remarks(recognise(path)[1], "mine", 0.25, 3))
    assert "trained on pannuke" in said and "0.5 µm/px (x20)" in said and "19 tissues" in said


def test_a_conic_file_may_have_seen_the_test_images(tmp_path):
    """Its folds 0 and 1 are those of a split that is not public, and none of PanNuke's."""
    settings = config(0, 1) | {"data.dataset": "conic", "data.num_nuclei_classes": 7, "data.num_tissue_classes": 1}
    state = published_state(built("cellvta@debug", 6, 1))
    _, facts = recognise(save_cellvit(tmp_path / "a.pth", state, "CellViTUNIAdapter", settings))
    assert (facts.dataset, facts.classes, facts.split, facts.trained) == ("conic", 6, None, ())
    assert "may have seen the test images" in " ".join(remarks(facts, "conic", 0.5, 1))
    assert other_split(facts, "pannuke", 1) == "", "its types, not its folds, speak against it"
    for other in ("synthetic", "synthetic@patches=4", "pannuke"):
        assert "may have seen" not in " ".join(remarks(facts, other, 0.5, 1))


def test_harmless_objects_load(tmp_path):
    """Numbers and arrays of numpy, under the names of old and new versions, and paths."""
    path = tmp_path / "a.pth"
    state = published_state(built(HOVERNET))
    content = {
        "desc": {k: v.numpy() for k, v in state.items()},
        "best": np.float64(0.5),
        "epoch": np.int64(3),
        "logdir": pathlib.Path("/log"),
    }
    torch.save(content, path)
    facts = load_official(built(HOVERNET, seed=3), path)
    assert facts.method == "hovernet"


class Executes:
    def __reduce__(self):
        return os.system, ("echo executed > executed.txt",)


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"desc": published_state(built(HOVERNET)), "x": Executes()}, "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth: holds a Python object of the kind '\w+\.system'"):
        recognise("evil.pth")
    assert not (tmp_path / "executed.txt").exists()


def spoilt(tmp_path, what: str):
    """A file with one thing wrong."""
    path = tmp_path / "file.pth"
    state = published_state(built("cellvta@debug"))
    first = next(iter(state))
    if what == "missing":
        state.pop("encoder.level_embed")
    elif what == "unexpected":
        state["encoder.surplus"] = torch.zeros(1)
    elif what == "shape":
        state[first] = torch.zeros(3, 3)
    elif what == "nan":
        state["encoder.level_embed"] = state["encoder.level_embed"] * float("nan")
    elif what == "not a tensor":
        state["encoder.note"] = "text"
    elif what == "encoder alone":
        state = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.") and "spm" not in k}
        state = {k: v for k, v in state.items() if not k.startswith("interactions")}
    elif what == "unknown":
        state = {"layer.weight": torch.zeros(2)}
    elif what == "empty":
        state = {}
    content = [1, 2] if what == "a list" else state
    if what == "half-trained":
        unfinished = SimpleNamespace(log=[], state_dict=lambda: {"method": state, "optimiser": {}})
        loop.save(unfinished, SimpleNamespace(folder=RunFolder(tmp_path), place={"key": "k"}))
        return RunFolder(tmp_path).checkpoint
    torch.save(content, path)
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "zero bytes":
        path.write_bytes(b"")
    elif what == "a web page":
        path.write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    return path


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", r"1 of \d+ entries are missing \(such as 'adapter\.level_embed'"),
        ("unexpected", r"1 are unexpected \(such as 'encoder\.surplus'"),
        ("shape", r"1 have another shape \(such as '.*expected \(.*\), found \(3, 3\)"),
        ("nan", "not finite"),
        ("not a tensor", "'encoder.note', which is no tensor"),
        ("encoder alone", "holds an encoder alone"),
        ("unknown", "of no known method, the first is 'layer.weight'"),
        ("empty", "found no entry"),
        ("a list", "found a list"),
        ("half-trained", "unfinished run"),
        ("truncated", "does not load"),
        ("zero bytes", "does not load"),
        ("a web page", "does not load"),
    ],
)
def test_unfit_files_are_said_in_one_sentence(what, says, tmp_path):
    path = spoilt(tmp_path, what)
    method = built("cellvta@debug", seed=5)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with pytest.raises(InputError, match=says) as error:
        load_official(method, path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 600
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items()), "nothing half-loaded"


@pytest.mark.parametrize(
    ("target", "classes", "tissues", "says"),
    [
        (HOVERNET, 5, 0, "is cellvta, 5 types, 19 tissues.*use METHOD=cellvta"),
        ("cellvta@debug", 6, 19, "expected 6 types"),
        ("cellvta@debug", 0, 19, "expected 0 types"),
        ("cellvta@debug", 5, 1, "expected 1 tissues"),
        ("cellvta@debug,interactions=2", 5, 19, "are unexpected"),
    ],
)
def test_wrong_method_row_or_heads(target, classes, tissues, says, tmp_path):
    path, _ = write(tmp_path / "model.pth", "cellvta@debug", "training")
    with pytest.raises(InputError, match=says):
        load_official(built(target, classes, tissues), path)


def test_no_such_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError, match="expected a file of weights"):
            recognise(path)


def test_converted_files_may_lack_counters(tmp_path):
    method = built(HOVERNET, seed=1)
    state = {k: v for k, v in published_state(method).items() if not k.endswith("num_batches_tracked")}
    target = built(HOVERNET, seed=2)
    load_official(target, save_hovernet(tmp_path / "a.tar", state, "converted"))
    assert torch.equal(target.encoder.stem.weight, method.encoder.stem.weight)


@pytest.mark.parametrize("text", ["cellvta@debug", HOVERNET, "decoder_only@debug"])
def test_weights_of_a_run_load(text, tmp_path):
    source, target = built(text, seed=1), built(text, seed=2)
    save_weights(tmp_path / "weights.safetensors", source)
    facts = load_official(target, tmp_path / "weights.safetensors")
    assert facts.own and facts.method is None
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_rows_and_splits_are_told_from_shapes_and_names(tmp_path):
    def read(name, kernel):
        state = {"conv0./.weight": torch.zeros(64, 1, 1, 1), "decoder.tp.u0.conv.weight": torch.zeros(6, 1, 1, 1)}
        torch.save({"desc": state | {"decoder.np.u3.conva.weight": torch.zeros(1, 1, kernel, kernel)}}, tmp_path / name)
        return recognise(tmp_path / name)[1]

    fast, original = read("pannuke_split2.tar", 3), read("pannuke_split12.tar", 5)
    assert (fast.row, fast.classes, fast.split, fast.trained) == ("fast", 5, 2, (1, 2))
    assert (original.row, original.split, original.trained) == ("original", None, ())


def test_a_run_of_ours_is_for_its_own_fold(tmp_path):
    facts = Facts(
        tmp_path, "cellvit", "small", 5, 0, "safetensors", split=2, evidence="its run", dataset="conic", own=True
    )
    assert other_split(facts, "conic", 1) == "its run was on FOLD=2, FOLD=1 was asked for; use FOLD=2"
    assert other_split(facts, "conic", 2) == other_split(facts, "pannuke", 1) == ""


@pytest.mark.parametrize(("there", "absent"), [("mean", "std"), ("std", "mean")])
def test_a_file_with_one_half_of_a_normalisation_is_refused(tmp_path, there, absent):
    """The method's own values were taken for both, without a word."""
    settings = config()
    del settings[f"transformations.normalize.{absent}"]
    path = save_cellvit(tmp_path / "a.pth", published_state(built("cellvit@debug")), "CellViT256", settings)
    with pytest.raises(InputError, match=rf"found normalize\.{there} without normalize\.{absent}"):
        recognise(path)


def test_a_zip_of_an_encoder_with_a_wrong_checksum_is_refused(tmp_path):
    """torch does not look at the checksums: one flipped bit was another encoder."""
    torch.save({"teacher": {"a": torch.ones(64, 64)}}, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.index(torch.ones(64, 64).numpy().tobytes()) + 5000] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"Bad CRC-32|wrong checksum"):
        weights_file.read_file(tmp_path / "a.pth")
