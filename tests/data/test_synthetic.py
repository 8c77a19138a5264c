"""The synthetic tissue: deterministic, exact, kept apart by slide, and near the statistics of real H&E."""

import hashlib
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table

from benchmark.data import pictures
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.sources.synthetic import CLASSES, RESERVED, TISSUES, Synthetic, draw
from benchmark.runtime.errors import InputError


def digest(sample: Sample) -> str:
    parts = (sample.image, sample.nuclei.instances, sample.nuclei.types)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


@pytest.fixture(scope="module")
def patches() -> list[Sample]:
    return list(Synthetic(patches=36).samples(1))


@pytest.fixture(scope="module")
def table(patches) -> dict[str, np.ndarray]:
    rows = defaultdict(list)
    for sample in patches:
        if not len(sample.nuclei):
            continue
        names = ("area", "solidity", "axis_major_length", "axis_minor_length")
        found = regionprops_table(sample.nuclei.instances, properties=names)
        for name in names:
            rows[name].append(found[name])
        grey = sample.image.mean(-1)
        ids = np.arange(1, len(sample.nuclei) + 1)
        rows["texture"].append(ndimage.standard_deviation(grey, sample.nuclei.instances, ids))
        rows["type"].append(sample.nuclei.types)
        rows["touching"].append(touching(sample.nuclei))
    return {name: np.concatenate(values) for name, values in rows.items()}


def touching(nuclei: Nuclei) -> np.ndarray:
    """bool (N,): which nuclei have a neighbour's pixel among the eight next to one of theirs."""
    instances, far = nuclei.instances, np.iinfo(np.int32).max
    above = ndimage.maximum_filter(instances, 3)
    below = ndimage.minimum_filter(np.where(instances > 0, instances, far), 3)
    mixed = (instances > 0) & ((above != instances) | (below != instances))
    return np.isin(np.arange(1, len(nuclei) + 1), instances[mixed])


def test_draw_gives_a_well_formed_sample():
    sample = draw("Colon", 3, 1, size=128)
    nuclei = sample.nuclei
    assert sample.image.shape == (128, 128, 3) and sample.image.dtype == np.uint8
    assert nuclei.instances.shape == (128, 128) and nuclei.instances.dtype == np.int32
    assert nuclei.types.dtype == np.uint8 and set(nuclei.types) <= set(range(1, 6))
    assert (nuclei.mpp, nuclei.tissue, nuclei.source, nuclei.typed) == (0.25, "Colon", "Colon-3", True)


def test_every_argument_matters_and_nothing_else():
    base = digest(draw("Lung", 7, 2, seed=1, size=96))
    np.random.seed(0)  # noqa: NPY002  global state must not matter
    draw("Skin", 1, 1, size=64)
    assert digest(draw("Lung", 7, 2, seed=1, size=96)) == base
    others = [("Skin", 7, 2, 1, 96), ("Lung", 8, 2, 1, 96), ("Lung", 7, 3, 1, 96), ("Lung", 7, 2, 2, 96)]
    assert len({base, *(digest(draw(*o)) for o in others)}) == 5


def test_another_process_draws_the_same_bytes():
    code = (
        "from tests.data.test_synthetic import digest; from benchmark.data.sources.synthetic import draw, TISSUES;"
        "print(*[digest(draw(t, 10001, 4)) for t in TISSUES])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert there == [digest(draw(t, 10001, 4)) for t in TISSUES]


def test_ids_are_contiguous_and_none_is_empty(patches):
    for sample in patches:
        ids = np.unique(sample.nuclei.instances)
        assert np.array_equal(ids[ids > 0], np.arange(1, len(sample.nuclei) + 1))
        assert np.all(sample.nuclei.types > 0)


def test_masks_lie_on_the_drawn_nuclei(patches):
    """Moved masks fit worse: inside and outside differ most where the masks are."""
    better = total = 0
    for sample in patches:
        mask, grey = sample.nuclei.instances > 0, sample.image.mean(-1)
        if mask.mean() < 0.03:
            continue
        edge = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask, iterations=2)

        def contrast(moved, grey=grey, edge=edge):
            return grey[edge & ~moved].mean() - grey[edge & moved].mean()

        here = contrast(mask)
        shifts = [(0, 2), (0, -2), (2, 0), (-2, 0)]
        better += sum(here > contrast(np.roll(mask, shift, (0, 1))) for shift in shifts)
        total += 4
    assert better > 0.97 * total > 80


def test_nuclei_are_nearly_always_one_piece(patches):
    pieces = instances = 0
    for sample in patches:
        for k, box in enumerate(ndimage.find_objects(sample.nuclei.instances), 1):
            pieces += ndimage.label(sample.nuclei.instances[box] == k, np.ones((3, 3)))[1]
            instances += 1
    assert pieces < 1.01 * instances


def test_statistics_resemble_real_tissue(patches, table):
    """Bounds span the real sets of the specification (CoNSeP, MoNuSeg, PanNuke), with room on both sides."""
    area, whole = table["area"], table["area"] > 30
    counts = np.array([len(s.nuclei) for s in patches])
    assert 200 < np.median(area) < 500
    assert np.percentile(area, 5) < 140 and np.percentile(area, 95) > 600
    assert 5.2 < np.log(area).mean() < 6.2 and 0.55 < np.log(area).std() < 1.1
    assert 18 < np.median(table["axis_major_length"]) < 32 and 11 < np.median(table["axis_minor_length"]) < 21
    low, middle = np.percentile(table["solidity"][whole], (5, 50))
    assert 0.8 < low < 0.94 and 0.93 < middle < 0.985
    assert 0.1 < table["touching"].mean() < 0.5
    assert 25 < np.median(counts) < 65 and counts.max() > 60
    assert 0.12 < np.mean([(s.nuclei.instances > 0).mean() for s in patches]) < 0.28
    middle, high = np.percentile(table["texture"][whole], (50, 95))
    assert 12 < middle < 30 and 22 < high < 55


def test_colours_resemble_real_tissue(patches):
    slides = defaultdict(list)
    whole, inside, around = [], [], []
    for sample in patches:
        mask = sample.nuclei.instances > 0
        whole.append(sample.image.mean((0, 1)))
        if mask.mean() < 0.03:
            continue
        far = ndimage.distance_transform_edt(~mask)
        ring = (far > 2) & (far <= 8)
        inside.append(sample.image[mask].mean(0))
        around.append(sample.image[ring].mean(0))
        slides[sample.nuclei.source].append([sample.image[mask].mean(), sample.image[ring].mean()])
    for found, low, high in (
        (whole, (150, 110, 150), (215, 180, 220)),
        (inside, (85, 60, 115), (170, 140, 195)),
        (around, (150, 115, 160), (220, 180, 225)),
    ):
        assert np.all(np.mean(found, 0) > low) and np.all(np.mean(found, 0) < high)
    of_slide = np.array([np.mean(v, 0) for v in slides.values()])
    assert 15 < of_slide[:, 0].std() < 50, "slides should differ in depth of stain"
    contrast = of_slide[:, 1] - of_slide[:, 0]
    assert contrast.min() > 5 and 22 < np.median(contrast) < 80


def test_classes_differ_in_size_and_form(table):
    def of(name, column):
        return table[column][(table["type"] == CLASSES.index(name) + 1) & (table["area"] > 30)]

    assert set(table["type"]) == {1, 2, 3, 4, 5}
    sizes = {name: np.median(of(name, "area")) for name in CLASSES}
    assert sizes["Dead"] < sizes["Inflammatory"] < sizes["Epithelial"] < sizes["Neoplastic"]
    ratio = {n: np.median(of(n, "axis_major_length") / of(n, "axis_minor_length")) for n in CLASSES}
    assert ratio["Connective"] > 1.7 > 1.5 > ratio["Inflammatory"]


def test_some_patches_are_empty_and_stay_so():
    counts = [len(draw("Liver", 200 + k, 0, size=64).nuclei) for k in range(120)]
    empty = [k for k, n in enumerate(counts) if n == 0]
    assert 1 <= len(empty) < 30
    assert not draw("Liver", 200 + empty[0], 0, size=64).nuclei.instances.any()


def test_source_keeps_slides_apart():
    source = DATASETS.module_dict["synthetic"]()
    assert source.folds() == [1, 2, 3] and [source.count(f) for f in source.folds()] == [64] * 3
    places = {f: [source.where(f, row) for row in range(64)] for f in source.folds()}
    slides = {f: {slide for _, slide, _ in places[f]} for f in places}
    assert len(slides[1] | slides[2] | slides[3]) == sum(map(len, slides.values()))
    assert max(max(s) for s in slides.values()) < RESERVED
    assert all(len(set(p)) == 64 and {t for t, _, _ in p} == set(TISSUES) for p in places.values())
    large = Synthetic(patches=20_000)
    assert max(large.where(1, r)[1] for r in range(4000)) < min(large.where(2, r)[1] for r in range(4000))
    assert large.where(3, 19_999)[1] < RESERVED


def test_samples_resume_in_the_middle():
    source = Synthetic(patches=8, size=64, seed=3)
    whole = [digest(s) for s in source.samples(2)]
    assert [digest(s) for s in source.samples(2, start=5)] == whole[5:] and len(whole) == 8


def test_splits_and_identity():
    source = Synthetic()
    rule = {k: [s[0].fold for s in (p.train, p.val, p.test)] for k in (1, 2, 3) for p in [source.split(k, {})]}
    assert rule == {1: [1, 2, 3], 2: [2, 1, 3], 3: [3, 2, 1]}
    assert source.identity(1) == Synthetic().identity(1) != Synthetic(seed=1).identity(1)
    assert source.identity(1) != source.identity(2)
    with pytest.raises(InputError, match="no split 4"):
        source.split(4, {})
    with pytest.raises(InputError, match="Unknown synthetic tissue 'Tail'"):
        draw("Tail", 0, 0)
    with pytest.raises(InputError, match="patches"):
        Synthetic(patches=0)
    with pytest.raises(InputError, match="size='large'"):
        Synthetic(size="large")


def test_contact_sheet(tmp_path):
    samples = [draw("Skin", k, 0, size=64) for k in range(5)]
    picture = pictures.sheet(samples, columns=3)
    assert picture.shape == (4 * 64, 3 * 64, 3)
    changed = np.any(pictures.outlined(samples[0]) != samples[0].image, axis=-1)
    assert changed.any() and not (changed & (samples[0].nuclei.instances == 0)).any()
    pictures.write_sheet([draw("Colon", k, 0) for k in range(2)], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="found no image"):
        pictures.sheet([])
