"""The one scorer: a pixel type map counts the same by every way in, types of whole collections, order, file ids."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei
from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.evaluation import decode_grid, test_set
from benchmark.evaluation.forward import one_ahead
from benchmark.evaluation.prediction import Prediction
from benchmark.evaluation.scoring import collect, protocol_scores, score_image
from benchmark.formats.labelled import Labelled
from benchmark.methods import registry
from benchmark.metrics.records import Records
from benchmark.representations.hv import HV
from benchmark.results.collect import runs
from benchmark.runtime import distributed
from tests.support.tiny_data import TINY


@pytest.fixture(scope="module")
def data(cache):
    return prepare(dataset(TINY, None), cache, 1, progress=False)


def mixed(truth: Nuclei, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The truth moved down by 2 px, every third nucleus with lower rows of another type: (instances, type map)."""
    labels = np.roll(truth.instances, 2, 0)
    labels[:2] = 0
    types = np.concatenate([[0], truth.types])[labels]
    for k in range(1, len(truth) + 1, 3):
        rows, columns = np.nonzero(labels == k)
        lower = rows > np.quantile(rows, 0.6) if len(rows) else rows > 0
        types[rows[lower], columns[lower]] = truth.types[k - 1] % classes + 1
    return labels, types.astype(np.uint8)


class KnownImages(HV):
    """Its one map holds the number of the image."""

    def decode(self, maps, mpp, settings=None):
        return Nuclei.from_labels(*Known.predictions[int(maps["image"][0])], mpp)


class Known(torch.nn.Module):
    """A method that knows its predictions: (instances, type map) of each image, in order."""

    trainable, has_types, representation = False, True, KnownImages()
    predictions: list[tuple[np.ndarray, np.ndarray]] = []
    seen = 0

    def predict(self, images):
        self.seen += len(images)
        return {"image": torch.arange(self.seen - len(images), self.seen)[:, None]}


def test_a_type_map_of_a_prediction_counts_alike_in_every_command(data, cache, tmp_path, monkeypatch):
    subset, classes, tissues = data.subset(1, "test"), list(data.classes), list(data.tissues)
    truths = [subset[i].nuclei for i in range(len(subset))]
    predictions = [mixed(truth, len(classes)) for truth in truths]
    assert any(Nuclei.from_labels(*one, 0.25).type_map is not None for one in predictions)
    scores = {}

    def stack(name, maps, **more):
        instances, types = (np.stack([m[k] for m in maps]) for k in (0, 1))
        np.savez(tmp_path / name, instances=instances, types=types, names=subset.image_ids, **more)
        return str(tmp_path / name)

    true = stack("true.npz", [(t.instances, t.pixel_types()) for t in truths], tissues=np.array(subset.tissues))
    pred = stack("pred.npz", predictions)
    (tmp_path / "classes.toml").write_text(f"classes = {json.dumps(classes)}\nmpp = {data.mpp}\n")
    words = ["--types", str(tmp_path / "classes.toml"), "--out", str(tmp_path / "score")]
    assert main(["score", "--true", true, "--pred", pred, *words]) == 0
    scores["score"] = json.loads((tmp_path / "score/metrics.json").read_text())

    words = ["--dataset", TINY, "--cache", str(cache), "--results", str(tmp_path / "results")]
    assert main(["import", "--name", "known", "--pred", pred, *words]) == 0
    scores["import"] = next(iter(runs(tmp_path / "results"))).metrics["protocols"]

    monkeypatch.setattr(Known, "predictions", predictions)
    share = test_set.evaluate(Known(), subset, Prediction("fp32", "none", 4), distributed.start("cpu"), True)
    scores["run"] = protocol_scores(test_set.join([share]).records, classes, tissues)

    class Maps:
        names, images = ("np", "hv", "tp"), list(range(len(subset)))

        def read(self, i):
            empty = np.zeros((2, *truths[i].instances.shape))
            return {"np": empty, "hv": np.full_like(empty, i), "tp": empty}

    class KnownMaps(HV):
        def decode(self, maps, mpp, settings=None):
            return Nuclei.from_labels(*predictions[int(maps["hv"].flat[0])], data.mpp)

    (records,) = decode_grid.decode(Maps(), truths, [None], KnownMaps(), workers=0)
    scores["postprocess"] = protocol_scores(records, classes, tissues)

    for name, protocols in scores.items():
        for protocol, values in protocols.items():
            for key, value in scores["score"][protocol].items():
                other = values[key]
                missing = other is None or np.isnan(other)
                assert missing if value is None else other == pytest.approx(value, abs=1e-12), (name, protocol, key)

    nuclei = [Nuclei.from_labels(*prediction, data.mpp) for prediction in predictions]
    for kept, expected in ((True, [0.5834, 0.6393]), (False, [0.75, 0.7301])):  # the figures of CHANGELOG.md
        sides = zip(truths, nuclei if kept else [replace(n, type_map=None) for n in nuclei])
        records = collect(score_image(i, truth, predicted, True) for i, (truth, predicted) in enumerate(sides))
        values = protocol_scores(records, classes, tissues)["pannuke"]
        assert [values["bPQ"], values["mPQ"]] == pytest.approx(expected, abs=5e-5)


def test_records_are_in_ascending_order_whatever_the_order_of_scoring():
    nuclei = [Nuclei.from_labels(np.eye(8, dtype=int) * (i > 0), None, 0.25, image_id=f"i{i}") for i in range(3)]
    scored = [score_image(i, nuclei[i], nuclei[i], True, keep=i == 2, shapes=False) for i in (2, 0, 1)]
    assert [image.prediction is not None for image in scored] == [True, False, False]
    assert np.array_equal(scored[0].prediction.instances(), nuclei[2].instances)
    records = collect(scored)
    assert records.images["image_id"].tolist() == ["i0", "i1", "i2"]
    assert records.images["n_pred"].tolist() == [0, 1, 1] and records.nuclei["solidity"].isna().all()


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([None, [2], None], [True, True, True]),
        ([[0], [0], None], [False, False, False]),
        ([[1], None, None], [1, 0, 1]),
    ],
    ids=["an empty image is as typed as the others", "types that are all 0 are none", "a file without types"],
)
def test_files_of_a_collection_settle_which_images_are_typed(types, expected):
    """None: no types in the file; the first and last image of the first case and the last of all hold no nucleus."""
    true = Labelled(np.pad(np.full((4, 4), 7), 2), np.array([1], np.uint8), 0.25)
    scored = []
    for i, types_of in enumerate(types):
        empty = i == 2 or (i == 0 and types_of is None)
        labels = np.zeros_like(true.instances) if empty else true.instances
        predicted = Labelled(labels, None if types_of is None else np.array(types_of, np.uint8))
        scored.append(score_image(i, true, predicted, predicted.typed))
    assert collect(scored, from_files=("pred",)).images["pred_typed"].tolist() == expected
    declared = [image for image in scored if image.meta["pred_typed"] is not None]
    kept = collect(declared).images["pred_typed"].tolist()
    assert kept == [image.meta["pred_typed"] for image in declared], "what is known is not settled anew"


def test_records_of_files_keep_the_ids_of_the_files(tmp_path):
    labels = np.zeros((16, 16), np.int64)
    labels[2:6, 2:6], labels[9:14, 3:8] = 40, 3 * 10**9
    np.save(tmp_path / "a.npy", labels)
    words = ["--true", str(tmp_path / "a.npy"), "--pred", str(tmp_path / "a.npy"), "--mpp", "0.25"]
    assert main(["score", *words, "--out", str(tmp_path / "out")]) == 0
    assert sorted(set(Records.load(tmp_path / "out").nuclei["id"])) == [40, 3 * 10**9]


def test_processes_score_what_one_process_scores(data, monkeypatch):
    method, subset, world = (
        registry.build("classical", len(data.classes), 0),
        data.subset(1, "test"),
        distributed.start("cpu"),
    )
    shares, shown = [], []
    for least in (1, 200):
        monkeypatch.setattr(test_set, "POOL_FROM", least)
        monkeypatch.setattr(test_set, "usable_cores", lambda: 1)
        options = {"keep": True, "progress": lambda *done: shown.append(done)}
        shares.append(test_set.evaluate(method, subset, Prediction("fp32", "none", 4), world, False, **options))
    assert shown == [(4, 6), (6, 6)] * 2
    apart, here = (test_set.join([share]) for share in shares)
    for name in ("images", "overlaps", "nuclei"):
        assert getattr(apart.records, name).equals(getattr(here.records, name))
    for one, other in zip(apart.predictions, here.predictions, strict=True):
        assert np.array_equal(one.instances(), other.instances()) and np.array_equal(one.types, other.types)
    assert apart.images == 6 and min(apart.decode_seconds, apart.forward_seconds) > 0


def test_the_next_batch_is_under_way_before_the_last_one_is_handed_out(data, monkeypatch):
    """On a GPU its forward pass then runs while the host decodes."""
    events: list = []

    class Watched(Known):
        def predict(self, images):
            events.append("forward")
            return super().predict(images)

    subset = data.subset(1, "test")
    monkeypatch.setattr(Known, "predictions", [mixed(subset[i].nuclei, len(data.classes)) for i in range(6)])
    world, prediction = distributed.start("cpu"), Prediction("fp32", "none", 2)
    test_set.evaluate(Watched(), subset, prediction, world, True, put=lambda i, maps: events.append(i))
    assert events == ["forward", "forward", 0, 1, "forward", 2, 3, 4, 5]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_items_made_one_ahead(count):
    begun: list[int] = []
    seen = [(item, len(begun)) for item in one_ahead(begun.append(k) or k for k in range(count))]
    assert seen == [(k, min(k + 2, count)) for k in range(count)]
