"""Images seen at another resolution: the rule by hand, and an evaluation of which the truth stays as it is."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.evaluation import resampling, test_set
from benchmark.evaluation.prediction import Prediction
from benchmark.methods.base import Method
from benchmark.representations.hv import HV
from benchmark.runtime import distributed


class Ids(HV):
    """Its one map holds the ids."""

    def decode(self, maps, mpp, settings=None):
        labels = np.rint(maps["np"][0]).astype(np.int32)
        labels[labels % 20 > 0] = 0  # a mix of two neighbours
        return Nuclei.from_labels(labels, None, mpp)


class Sees(Method):
    """Its maps are the image's first channel; every run of a value above 0 in it is a nucleus of that id."""

    has_types, representation = False, Ids()

    def __init__(self):
        super().__init__()
        self.shapes = []

    def predict(self, images):
        self.shapes.append(tuple(images.shape[-2:]))
        return {"np": images[:, :1] * 255}


def squares(side, scale, mpp):
    """Four squares of `scale` · 6 px with ids 20, 40, 60, 80, drawn in the image by their ids."""
    labels = np.zeros((side * scale, side * scale), np.int32)
    for k, (y, x) in enumerate([(2, 2), (2, 14), (14, 2), (14, 14)], 1):
        labels[scale * y : scale * (y + 6), scale * x : scale * (x + 6)] = 20 * k
    image = np.repeat(labels[..., None], 3, 2).astype(np.uint8)
    return Sample(image, Nuclei.from_labels(labels, None, mpp, image_id="a"))


def evaluated(samples, mpp):
    method = Sees()
    prediction = Prediction("fp32", "none", 2, mpp)
    share = test_set.evaluate(method, samples, prediction, distributed.start("cpu"), False, keep=True)
    return method.shapes, test_set.join([share])


@pytest.mark.parametrize(("mpp", "seen", "scale", "shape"), [(0.5, 0.25, 2, (96, 96)), (0.25, 0.5, 4, (48, 48))])
def test_the_network_sees_its_own_resolution_and_the_truth_stays(mpp, seen, scale, shape):
    sample = squares(24, scale, mpp)
    shapes, evaluation = evaluated([sample, sample], seen)
    assert shapes == [shape]
    true, pred = (evaluation.records.nuclei[evaluation.records.nuclei["side"] == side] for side in ("true", "pred"))
    assert len(true) == len(pred) == 8 and (true["match"] > 0).all(), "every nucleus is found again"
    assert true["area"].tolist() == [36 * scale**2] * 8
    assert (evaluation.records.images["mpp"] == mpp).all()
    assert all(tuple(packed.shape) == sample.nuclei.instances.shape for packed in evaluation.predictions)


@pytest.mark.parametrize("seen", [None, 0.25, 0.2575])
def test_equal_resolutions_are_left_alone(seen):
    sample = squares(24, 1, 0.25)
    shapes, evaluation = evaluated([sample], seen)
    assert shapes == [(24, 24)]
    assert test_set.seen_at(sample, seen) is sample.image
    assert (evaluation.records.nuclei["area"] == 36).all()


def test_a_pixel_takes_the_label_under_its_centre():
    labels = np.arange(1, 17, dtype=np.int32).reshape(4, 4)
    fine = Nuclei.from_labels(labels, np.arange(1, 17) % 3, 0.25)
    coarse = resampling.brought_back(fine, (2, 2), 0.5, 0.25)
    # the centre of pixel (0, 0) of 0.5 µm lies at 0.25 µm: on the edge between fine pixels 0 and 1, which is of 1
    assert coarse.types.tolist() == [6 % 3, 8 % 3, 14 % 3, 16 % 3] and coarse.instances.tolist() == [[1, 2], [3, 4]]
    assert coarse.mpp == 0.5
    back = resampling.brought_back(coarse, (4, 4), 0.25, 0.5)
    assert back.instances.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_shrinking_is_antialiased():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    assert np.abs(resampling.resized(image, 16, 16)[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_images_that_are_seen_larger_are_fewer_at_once():
    samples = [squares(24, 16, 0.5)] * 3  # 384 px: 768 px at 0.25 µm/px
    together = [rows for rows, _ in test_set.batches(samples, [0, 1, 2], 16, None)]
    assert together == [[0, 1, 2]]
    assert [rows for rows, _ in test_set.batches(samples, [0, 1, 2], 16, 0.25)] == [[0], [1], [2]]


def test_images_of_one_stored_shape_that_are_seen_apart_are_predicted_apart():
    """As on the test side of joined sets: 24 px at 0.25 and at 0.5 µm/px, of which the network sees 24 and 48 px."""
    samples = [squares(24, 1, mpp) for mpp in (0.25, 0.25, 0.25, 0.5, 0.5, 0.25)]
    assert [rows for rows, _ in test_set.batches(samples, range(6), 4, 0.25)] == [[0, 1, 2], [3, 4], [5]]
    assert [rows for rows, _ in test_set.batches(samples, range(6), 4)] == [[0, 1, 2, 3], [4, 5]]
    shapes, evaluation = evaluated(samples, 0.25)
    assert shapes == [(24, 24), (24, 24), (48, 48), (24, 24)] and evaluation.images == 6
    assert evaluation.records.images["mpp"].tolist() == [sample.nuclei.mpp for sample in samples]


def test_images_that_become_one_shape_are_predicted_apart_as_before():
    samples = [squares(48, 1, 0.25), squares(24, 1, 0.5)]
    assert [rows for rows, _ in test_set.batches(samples, [0, 1], 4, 0.25)] == [[0], [1]]
