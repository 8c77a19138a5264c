"""`import`: a foreign tool's predictions become a run that `table` shows."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.results.card import card
from benchmark.results.collect import runs
from tests.support.tiny_data import TINY


@pytest.fixture(scope="module")
def subset(cache):
    return prepare(dataset(TINY, None), cache, 1, progress=False).subset(1, "test")


def foreign(path, subset, change=lambda i, instances: instances, **more):
    """Predictions that are the truth, or what `change` makes of it, named by image id."""
    instances = np.stack([change(i, subset[i].nuclei.instances) for i in range(len(subset))])
    types = np.stack([subset[i].nuclei.pixel_types() for i in range(len(subset))]) * (instances > 0)
    np.savez_compressed(path, **({"instances": instances, "types": types, "names": subset.image_ids} | more))
    return path


def imported(tmp_path, cache, path, *words) -> int:
    line = ["import", "--name", "mytool", "--pred", str(path), "--dataset", TINY, "--cache", str(cache)]
    return main([*line, "--results", str(tmp_path / "results"), *words])


def test_perfect_predictions_score_one_and_stand_in_the_table(tmp_path, cache, subset, capsys):
    path = foreign(tmp_path / "p.npz", subset)
    assert imported(tmp_path, cache, path) == 0
    folder = tmp_path / "results" / TINY / "mytool+imported" / "fold1-seed0"
    (run,) = runs(tmp_path / "results")
    assert run.folder == folder and run.id.kind == "imported" and run.config["classes"]
    text = (folder / "card.md").read_text()
    assert "its model: not recorded" in text and "as the code that draws them" in text and text == card(run)
    for name in ("bPQ", "mPQ"):  # CellViT's protocol drops specks from predictions
        assert run.metrics["protocols"]["pannuke"][name] == pytest.approx(1, abs=1e-5)
        assert 0.97 < run.metrics["protocols"]["cellvit"][name] <= 1
    records = Records.load(folder)
    assert records.images["image_id"].tolist() == subset.image_ids
    assert records.images["tissue"].tolist() == subset.tissues
    for name, protocol in PROTOCOLS.items():
        stored = run.metrics["protocols"][name]
        again = protocol.summary(records, run.config["classes"], run.config["tissues"])
        assert stored["version"] == protocol.version
        assert all(stored[k] is None or stored[k] == pytest.approx(v) for k, v in again.items())
    with np.load(folder / "predictions.npz", allow_pickle=False) as kept:
        assert np.array_equal(kept["instances"][2], subset[2].nuclei.instances)
        assert len(kept["types"]) == kept["offsets"][-1]
    capsys.readouterr()
    assert main(["table", "--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]) == 0
    table = capsys.readouterr().out
    assert "mytool" in table and "`imported`" in table


def test_a_binary_mask_is_warned_of(tmp_path, cache, subset, capsys):
    path = foreign(tmp_path / "p.npz", subset, lambda i, instances: (instances > 0).astype(int))
    assert imported(tmp_path, cache, path, "--types-outside", "ignore") == 0
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "p.npz image" in err and "looks like a binary mask" in err


def test_order_and_name_decide_alike(tmp_path, cache, subset):
    order = np.arange(len(subset))[::-1]
    instances = np.stack([subset[i].nuclei.instances for i in order])
    named = tmp_path / "n.npz"
    np.savez(named, instances=instances, names=[subset.image_ids[i] for i in order])
    bare = tmp_path / "b.npz"
    np.savez(bare, instances=instances[::-1])
    values = []
    for path in (named, bare):
        assert imported(tmp_path, cache, path) == 0
        (run,) = runs(tmp_path / "results")
        values.append(run.metrics["protocols"]["cellvit"])
    assert values[0] == values[1] and values[0]["bPQ"] > 0.99 and values[0]["mPQ"] is None


def test_bad_predictions_write_nothing(tmp_path, cache, subset, capsys):
    lost = [*subset.image_ids[1:], "stranger"]
    few = tmp_path / "few.npz"
    np.savez(few, instances=np.zeros((2, 256, 256), int))
    cases = {
        foreign(tmp_path / "a.npz", subset, names=np.array(lost)): "1 of 6 images of the test set",
        foreign(tmp_path / "c.npz", subset, change=lambda i, m: m - 1): "negative id",
        few: "expected 6 images, as the test set has, found 2",
    }
    for path, said in cases.items():
        assert imported(tmp_path, cache, path) == 2
        error = capsys.readouterr().err
        assert said in error and str(path) in error
        assert not list((tmp_path / "results").rglob("*.json"))
    assert imported(tmp_path, cache, path, "--name", "a/b") == 2
    assert imported(tmp_path, cache, foreign(tmp_path / "d.npz", subset), "--fold", "9") == 2


def test_missing_images_count_as_empty_when_asked(tmp_path, cache, subset):
    keep = [i for i in range(len(subset)) if i != 1]
    path = tmp_path / "p.npz"
    instances = np.stack([subset[i].nuclei.instances for i in keep])
    types = np.stack([subset[i].nuclei.pixel_types() for i in keep])
    np.savez(path, instances=instances, types=types, names=[subset.image_ids[i] for i in keep])
    assert imported(tmp_path, cache, path) == 2
    assert imported(tmp_path, cache, path, "--missing", "empty") == 0
    (run,) = runs(tmp_path / "results")
    images = run.records().images
    assert images["n_pred"].tolist()[1] == 0 and images["pred_typed"].all() and len(images) == len(subset)


def test_an_older_import_is_replaced(tmp_path, cache, subset):
    assert imported(tmp_path, cache, foreign(tmp_path / "p.npz", subset)) == 0
    half = foreign(tmp_path / "q.npz", subset, change=lambda i, m: m * (i % 2))
    assert imported(tmp_path, cache, half) == 0
    (run,) = runs(tmp_path / "results")
    assert run.metrics["protocols"]["cellvit"]["bPQ"] < 0.9
    config = json.loads((run.folder / "config.json").read_text())
    assert config["imported"] == {"from": "q.npz"}


def test_stored_predictions_of_mixed_nuclei_score_as_they_did(tmp_path, cache, subset):
    """What `import` stores, given to `score`, has the same scores: the types by pixel are stored too."""
    types = np.stack([subset[i].nuclei.pixel_types() for i in range(len(subset))])
    for one, number in zip(types, range(len(subset))):
        instances = subset[number].nuclei.instances
        one[(instances % 3 == 1) & (np.arange(one.shape[1]) % 5 < 2)] = 3
        one[instances == 0] = 0
    assert imported(tmp_path, cache, foreign(tmp_path / "p.npz", subset, types=types)) == 0
    (run,) = runs(tmp_path / "results")
    truth = [subset[i].nuclei for i in range(len(subset))]
    instances, true_types = np.stack([t.instances for t in truth]), np.stack([t.pixel_types() for t in truth])
    np.savez_compressed(tmp_path / "t.npz", instances=instances, types=true_types)
    words = ["--true", str(tmp_path / "t.npz"), "--pred", str(run.folder / "predictions.npz")]
    assert main(["score", *words, "--mpp", str(truth[0].mpp), "--out", str(tmp_path / "scores")]) == 0
    again = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    stored = run.metrics["protocols"]
    for protocol in ("pannuke", "conic", "cellvit"):
        for name in ("bPQ", "mPQ"):
            assert again[protocol][name] == pytest.approx(stored[protocol][name]), (protocol, name)
    assert stored["pannuke"]["mPQ"] < 0.99


def test_a_score_without_a_value_is_worded(tmp_path, capsys):
    """It said "bPQ nan"."""
    for k in range(3):
        for folder, array in (
            ("images", np.full((32, 32, 3), 90 + k, np.uint8)),
            ("labels", np.zeros((32, 32), np.uint8)),
        ):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "data" / folder / f"c{k}.png")
    (tmp_path / "data/dataset.toml").write_text("classes = []\nmpp = 0.25\npatch = 32\n")
    np.savez(tmp_path / "pred.npz", instances=np.zeros((1, 32, 32), np.uint8))
    line = ["import", "--name", "tool", "--pred", tmp_path / "pred.npz", "--cache", tmp_path / "cache"]
    line += ["--dataset", "folder", "--data-root", tmp_path / "data", "--results", tmp_path / "results"]
    assert main(list(map(str, line))) == 0
    assert "bPQ has no value, since no test image holds nuclei (cellvit protocol)" in capsys.readouterr().out
