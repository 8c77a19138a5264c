"""Shape descriptors against scikit-image; size, crowding and their curves by hand."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from benchmark.metrics import shape
from benchmark.metrics.curves import crowding_curve, curve, size_curve
from benchmark.metrics.match import match
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_crowding, by_quantile, by_size, by_touching
from tests.support.label_maps import blobs, squares


@pytest.mark.parametrize("seed", range(8))
def test_shapes_equal_scikit_image(seed):
    """Discs in pieces, and noise: every nucleus scattered over the whole map."""
    noise = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 3, 4, 5, 900], size=(9, 31))
    for labels in (blobs(seed, 64, 14), noise):
        side = match(labels, None, labels, None, mpp=0.25).true
        known = regionprops(labels)
        np.testing.assert_array_equal(side.solidity, [p.solidity for p in known])
        np.testing.assert_allclose(side.eccentricity, [p.eccentricity for p in known], rtol=0, atol=1e-7)


def test_shapes_by_hand(monkeypatch):
    labels = np.zeros((20, 20), int)
    labels[2, 3:9] = 1  # a line
    labels[5:11, 2:8] = 2  # a square
    labels[5:11, 10] = labels[10, 10:16] = 3  # an angle: 11 px in a hull of 21
    monkeypatch.setattr(shape, "_ROWS", 4)  # counted in several parts
    side = match(labels, None, labels, None, mpp=1).true
    assert side.solidity.tolist() == [1, 1, 11 / 21]
    assert side.eccentricity[:2].tolist() == [1, 0]
    bare = match(labels, None, labels, None, mpp=1, shapes=False).true
    assert np.isnan(bare.solidity).all() and np.isnan(bare.eccentricity).all()


@pytest.mark.parametrize("seed", range(4))
def test_touching_equals_dilation(seed):
    labels = blobs(seed, 64, 14)
    side = match(labels, None, labels, None, mpp=1).true
    for i, found in zip(side.id, side.touching, strict=True):
        ring = ndimage.binary_dilation(labels == i, np.ones((3, 3))) & (labels != i) & (labels > 0)
        assert found == ring.any()


def test_nearest_neighbour():
    true = squares((0, 0, 4, 4), (0, 10, 4, 4), (30, 0, 4, 4))
    alone = squares((0, 0, 4, 4))
    matches = [match(true, None, alone, None, mpp=0.5), match(alone, None, true, None, mpp=0.25)]
    nuclei = Records.collect(matches, [{"image": i} for i in range(2)]).nuclei
    expected = [5, 5, 15, np.nan, np.nan, 2.5, 2.5, 7.5]
    np.testing.assert_array_equal(nuclei["neighbour_um"], expected)


def gradient(images: int = 6) -> Records:
    """Squares of 8 px (2.3 um) of which every other is found, and of 24 px (6.8 um) which are all found."""
    boxes = [(2 + 40 * r, 2 + 40 * c, s, s) for r, s in enumerate((8, 8, 24, 24)) for c in range(4)]
    true, matches = squares(*boxes, side=170), []
    for _ in range(images):
        pred = np.where(((true % 2) == 0) | (true > 8), true, 0)
        matches.append(match(true, None, pred, None, mpp=0.25))
    return Records.collect(matches, [{"image": i, "source": f"slide{i % 3}"} for i in range(images)])


def test_curve_by_hand():
    records = gradient()
    table = size_curve(records, grid=[2.26, 4.51355, 6.77], bandwidth=0.3, resamples=50)
    assert table["recall"].tolist() == pytest.approx([0.5, 0.75, 1], abs=1e-3)
    assert table["PQ"].iloc[[0, 2]].tolist() == pytest.approx([4 / 6, 1]) and table["SQ"].tolist() == pytest.approx(
        [1] * 3
    )
    assert table["n"].iloc[0] == pytest.approx(48, abs=0.1)
    # every slide alike: a band without width
    np.testing.assert_allclose(table["PQ_low"], table["PQ"])
    np.testing.assert_allclose(table["PQ_high"], table["PQ"])
    pooled = by_size(records, edges=(4,))
    wide = size_curve(records, grid=[5.0], bandwidth=1e6, resamples=0)
    assert wide["PQ"].item() == pytest.approx(8 * 6 * 1.5 / (8 * 6 * 1.5 + 4 * 6 / 2)) and np.isnan(
        wide["PQ_low"].item()
    )
    assert pooled["recall"].tolist() == [0.5, 1]


def test_band_is_of_sources_and_reproducible():
    records = gradient()
    bad = records.images["source"].eq("slide0").to_numpy()
    missed = np.isin(records.nuclei["image"], records.images["image"][bad]) & (records.nuclei["side"] == "true")
    records.nuclei.loc[missed, "match"] = 0
    one = size_curve(records, grid=[2.26, 6.77])
    assert (one["recall_low"] < one["recall"]).all() and (one["recall"] < one["recall_high"]).all()
    assert one["recall_low"].min() == 0  # three slides: a draw of the bad one alone is among the 2.5 %
    assert one.equals(size_curve(records, grid=[2.26, 6.77]))
    as_images = Records(records.images.assign(source=""), records.overlaps, records.nuclei)
    assert size_curve(as_images, grid=[6.77])["recall_low"].item() > 0  # six clusters: never only the bad two


def test_crowding_by_hand():
    true = squares((2, 2, 6, 6), (2, 8, 6, 6), (30, 2, 6, 6))  # 1 and 2 touch: 6 px apart
    pred = squares((2, 2, 6, 6), (30, 20, 6, 6), (30, 2, 6, 6))
    records = Records.collect([match(true, None, pred, None, mpp=1.0)], [{"image": 0}])
    table = by_crowding(records, edges=(10,))
    assert table["tp"].tolist() == [1, 1] and table["fn"].tolist() == [1, 0] and table["fp"].tolist() == [0, 1]
    touching = by_touching(records).set_index("bin")
    assert touching.loc["touching", ["tp", "fn"]].tolist() == [1, 1] and touching.loc["free", "fp"] == 1
    alone = Records.collect([match(squares((2, 2, 6, 6)), None, true, None, mpp=1.0)], [{"image": 0}])
    assert by_crowding(alone, edges=(10,))["tp"].tolist() == [0, 1]
    assert len(crowding_curve(alone, grid=[5.0])) == 1 and crowding_curve(records, grid=[6.0])["recall"].item() < 0.6


def test_quantiles():
    table = by_quantile(gradient(), bins=2)
    assert table["n_true"].sum() == 96 and len(table) == 2
    with pytest.raises(ValueError, match="expected at least 2 bins"):
        by_quantile(gradient(), bins=1)


def test_bad_options_and_old_records():
    records = gradient(1)
    old = Records(records.images, records.overlaps, records.nuclei.drop(columns=["neighbour_um", "touching"]))
    for function in (by_crowding, by_touching, crowding_curve):
        with pytest.raises(ValueError, match="written by an older version"):
            function(old)
    assert len(size_curve(old)) == 40
    with pytest.raises(ValueError, match="expected 'd_um' or 'neighbour_um'"):
        curve(records, "area")
    with pytest.raises(ValueError, match="bandwidth is 0 um"):
        size_curve(records, bandwidth=0)
    assert len(size_curve(Records.collect([], []))) == 0
