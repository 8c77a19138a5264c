"""Augmentation moves image, instances and pixel types together, and the same rng gives the same bytes
anywhere."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.postproc.hv import hv_targets
from benchmark.runtime.errors import InputError
from benchmark.training.augment import geometric, photometric
from benchmark.training.augment.apply import MATCHED, PUBLISHED, augment, check, crop
from benchmark.training.augment.geometric import Patch

RECIPES = {**PUBLISHED, "matched": MATCHED}


def sample(height=64, width=64, mixed=False) -> Sample:
    """Rectangles of different sizes; image channels: 255 * nucleus, 8 * id, 40 * type."""
    instances = np.zeros((height, width), np.int64)
    types = []
    for k, (top, left) in enumerate((t, l) for t in range(3, height - 8, 14) for l in range(2, width - 8, 12)):
        instances[top : top + 6 + k % 4, left : left + 5 + k % 5] = k + 1
        types.append(1 + k % 5)
    pixel_types = np.concatenate([[0], types])[instances]
    if mixed:
        pixel_types[instances == 1] = [1, 2] * (np.sum(instances == 1) // 2)
    nuclei = Nuclei.from_labels(instances, pixel_types if mixed else np.array(types), 0.25, tissue="Colon")
    image = np.stack([255 * (instances > 0), 8 * instances, 40 * pixel_types], -1).astype(np.uint8)
    return Sample(image, nuclei)


def agree(moved: Sample) -> np.ndarray:
    """bool (H, W): pixels whose image still tells the id's type and presence."""
    nuclei = moved.nuclei
    present = (moved.image[..., 0] > 127) == (nuclei.instances > 0)
    return present & (np.abs(moved.image[..., 2] - 40.0 * nuclei.pixel_types()) < 20)


def run(steps, seed=0, **kwargs) -> Sample:
    return augment(sample(**kwargs), np.random.default_rng(seed), steps)


@pytest.mark.parametrize("name", ["rot90", "hflip", "vflip", "affine"])
@pytest.mark.parametrize("mixed", [False, True])
def test_nearest_moves_agree_to_the_pixel(name, mixed):
    for seed in range(4):
        moved = run([{"name": name}], seed, mixed=mixed)
        assert agree(moved).all()
        ids = moved.nuclei.instances
        assert sorted(np.unique(ids[ids > 0])) == list(range(1, len(moved.nuclei) + 1))
        # one id, one colour: the partition itself moved as the image did
        colours = {(int(a), int(b)) for a, b in zip(ids.ravel(), moved.image[..., 1].ravel())}
        assert len({a for a, _ in colours}) == len(colours)


@pytest.mark.parametrize("name", ["random_sized_crop", "elastic"])
def test_interpolated_moves_agree_but_for_edges(name):
    for seed in range(4):
        moved = run([{"name": name}], seed, height=128, width=128)
        assert moved.image.shape == (128, 128, 3) and agree(moved).mean() > 0.85
        inside = np.lib.stride_tricks.sliding_window_view(moved.nuclei.instances, (5, 5))
        flat = (inside == inside[..., :1, :1]).all((2, 3))
        assert agree(moved)[2:-2, 2:-2][flat].mean() > 0.995


def test_a_move_of_labels_alone_would_be_seen():
    still = run([])
    moved = run([{"name": "hflip"}])
    assert agree(still).all() and not agree(Sample(still.image, moved.nuclei)).all()


def test_flips_and_full_crop_are_what_they_say():
    plain = sample()
    patch = Patch(plain.image, plain.nuclei.instances)
    rng = np.random.default_rng(0)
    assert np.array_equal(geometric.hflip(patch, rng).instances, np.fliplr(plain.nuclei.instances))
    assert np.array_equal(geometric.vflip(patch, rng).image, plain.image[::-1])
    whole = geometric.random_sized_crop(patch, rng, low=1.0)
    assert np.array_equal(whole.instances, patch.instances) and np.array_equal(whole.image, patch.image)
    still = geometric.affine(patch, rng, scale=0, translate=0, shear=0, rotate=0)
    assert np.array_equal(still.instances, patch.instances)
    turned = {geometric.rot90(patch, np.random.default_rng(s)).image.tobytes() for s in range(20)}
    assert turned == {np.rot90(plain.image, k).tobytes() for k in range(4)}


def test_sized_crop_enlarges():
    areas = [
        np.bincount(run([{"name": "random_sized_crop", "high": 0.5}], s).nuclei.instances.ravel())[1:].max()
        for s in range(3)
    ]
    largest = np.bincount(sample().nuclei.instances.ravel())[1:].max()
    assert max(areas) > 3 * largest


def test_hv_follows_the_moved_nuclei():
    plain, flipped = sample(), run([{"name": "hflip"}])
    before, after = hv_targets(plain.nuclei.instances), hv_targets(flipped.nuclei.instances)
    mirrored = before[:, :, ::-1]
    inside = flipped.nuclei.instances > 0
    assert np.array_equal(after[1], mirrored[1])  # rows untouched
    assert np.corrcoef(after[0][inside], -mirrored[0][inside])[0, 1] > 0.8  # x turns its sign


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_recipes_repeat_and_keep_shapes(name, shape):
    plain = sample(*shape, mixed=True)
    copy = plain.image.copy(), plain.nuclei.instances.copy()
    for seed in range(6):
        first, second = (augment(plain, np.random.default_rng(seed), RECIPES[name]) for _ in range(2))
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.nuclei.instances, second.nuclei.instances)
        assert first.image.shape == (*shape, 3) and first.image.dtype == np.uint8
        assert first.nuclei.instances.dtype == np.int32 and first.nuclei.instances.shape == shape
        assert first.nuclei.type_map.shape == shape and first.nuclei.tissue == "Colon"
        assert first.image.flags.c_contiguous and first.nuclei.instances.flags.c_contiguous
    assert np.array_equal(plain.image, copy[0]) and np.array_equal(plain.nuclei.instances, copy[1])


@pytest.mark.parametrize("name", sorted(photometric.STEPS))
def test_photometric_steps_change_the_image_alone(name):
    rng = np.random.default_rng(3)
    plain = sample()
    noisy = Sample(
        np.clip(plain.image * 0.5 + rng.integers(40, 90, plain.image.shape), 0, 255).astype(np.uint8),
        plain.nuclei,
    )
    changed = [augment(noisy, np.random.default_rng(s), [{"name": name}]) for s in range(5)]
    assert all(c.nuclei is plain.nuclei and c.image.dtype == np.uint8 for c in changed)
    assert any(not np.array_equal(c.image, noisy.image) for c in changed)
    # mild: no step turns the picture into another one
    assert all(np.corrcoef(c.image.ravel(), noisy.image.ravel())[0, 1] > 0.5 for c in changed)


def test_bytes_are_those_of_any_other_process():
    code = (
        "import hashlib, sys, numpy as np; from tests.training.augment.test_apply import *\n"
        "print(fingerprint()); sys.exit('torch' in sys.modules)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert other.returncode == 0, other.stderr  # and no torch: workers start fast
    assert other.stdout.split()[-1] == fingerprint()


def fingerprint() -> str:
    digest = hashlib.sha256()
    for name in sorted(RECIPES):
        moved = augment(sample(), np.random.default_rng(11), [s | {"p": 1} for s in RECIPES[name]])
        digest.update(moved.image.tobytes() + moved.nuclei.instances.tobytes())
    return digest.hexdigest()


def test_probability_zero_never_and_one_always():
    plain = sample()
    assert np.array_equal(run([{"name": "hflip", "p": 0}]).image, plain.image)
    for seed in range(5):
        assert np.array_equal(run([{"name": "hflip", "p": 1}], seed).image, plain.image[:, ::-1])


@pytest.mark.parametrize(
    "step,message",
    [
        ({"name": "hflp"}, "Did you mean 'hflip'"),
        ({"p": 0.5}, "Unknown augmentation step 'None'"),
        ({"name": "blur", "limt": 3}, "no setting 'limt'.*Did you mean 'limit'"),
        ({"name": "one_of"}, "at least one step"),
        ({"name": "hflip", "p": 50}, "probability from 0 to 1"),
        ({"name": "shuffled", "steps": [{"name": "vflp"}]}, "Did you mean 'vflip'"),
    ],
)
def test_bad_steps(step, message):
    with pytest.raises(InputError, match=message):
        run([step])


def test_an_image_without_nuclei_passes():
    empty = Sample(np.zeros((32, 32, 3), np.uint8), Nuclei.from_labels(np.zeros((32, 32), int), None, 0.25))
    for recipe in RECIPES.values():
        assert len(augment(empty, np.random.default_rng(0), [s | {"p": 1} for s in recipe]).nuclei) == 0


def test_a_window_is_enlarged_pixel_by_pixel():
    """Half the sides: every pixel of the window twice along each axis, and no pixel beyond the window."""
    height, width = 20, 60
    patch = Patch(np.zeros((height, width, 3), np.uint8), np.arange(height * width, dtype=np.int32).reshape(height, -1))
    places = set()
    for seed in range(20):
        moved = geometric.random_sized_crop(patch, np.random.default_rng(seed), low=0.5, high=0.5).instances
        top, left = divmod(int(moved[0, 0]), width)
        window = patch.instances[top : top + height // 2, left : left + width // 2]
        assert np.array_equal(moved, window.repeat(2, 0).repeat(2, 1))
        places.add((top, left))
    assert len(places) > 15


def test_nested_steps_draw_one_of_them_or_their_order():
    bright = [{"name": "shift_brightness", "limit": k} for k in (0, 255)]  # the first changes nothing
    runs = [run([{"name": "one_of", "steps": bright}], seed).image.tobytes() for seed in range(12)]
    assert sample().image.tobytes() in runs and len(set(runs)) > 2
    soft, hard = {"name": "blur", "limit": 3}, {"name": "scale_contrast", "low": 3, "high": 3}  # neither draws anything
    orders = [run([{"name": "shuffled", "steps": [soft, hard]}], seed).image.tobytes() for seed in range(12)]
    assert set(orders) == {run(steps).image.tobytes() for steps in ([soft, hard], [hard, soft])}


def test_nested_steps_are_checked_before_anything_runs():
    with pytest.raises(InputError):
        check({"name": "one_of", "p": 0, "steps": [{"name": "hflip"}, {"name": "nothing"}]})


def test_crop_takes_real_context_and_mirrors_beyond():
    plain = sample(80, 96)
    image, nuclei = crop(plain, None, 40, (7, 12))
    assert image.shape == (59, 59, 3) and nuclei.instances.shape == (40, 40)
    assert np.array_equal(image, plain.image[20 - 7 : 60 + 12, 28 - 7 : 68 + 12])
    assert np.array_equal(nuclei.instances > 0, plain.nuclei.instances[20:60, 28:68] > 0)
    wide, _ = crop(plain, None, 40, (50, 45))
    padded = np.pad(plain.image, ((50, 50), (50, 50), (0, 0)), "reflect")
    assert np.array_equal(wide, padded[20 : 20 + 135, 28 : 28 + 135])


def test_crop_is_random_within_the_patch_and_repeats():
    plain = sample(80, 96, mixed=True)
    seen = set()
    for seed in range(12):
        image, nuclei = crop(plain, np.random.default_rng(seed), 32, (0, 0))
        again, _ = crop(plain, np.random.default_rng(seed), 32, (0, 0))
        assert np.array_equal(image, again) and agree(Sample(image, nuclei)).all()
        assert sorted(np.unique(nuclei.instances)) == list(range(len(nuclei) + 1))
        seen.add(image.tobytes())
    assert len(seen) > 8
    tiny = sample(33, 33)
    corners = {crop(tiny, np.random.default_rng(seed), 32)[0].tobytes() for seed in range(40)}
    assert corners == {tiny.image[t : t + 32, l : l + 32].tobytes() for t in (0, 1) for l in (0, 1)}
    assert np.array_equal(crop(tiny, None, 32)[0], tiny.image[:32, :32]), "an odd pixel is left over at the end"


@pytest.mark.parametrize("shape", [(20, 64), (20, 20), (1, 1), (33, 7)])
def test_crop_of_a_patch_smaller_than_the_window(shape):
    rng = np.random.default_rng(0)
    instances = np.ones(shape, np.int32)
    small = Sample(
        rng.integers(0, 256, (*shape, 3)).astype(np.uint8), Nuclei.from_labels(instances, np.array([3]), 0.25)
    )
    image, nuclei = crop(small, rng, 48, (3, 4))
    assert image.shape == (55, 55, 3) and nuclei.instances.shape == (48, 48)
    assert nuclei.instances.sum() == min(shape[0], 48) * min(shape[1], 48) and nuclei.types.tolist() == [3]
    top = (48 - shape[0]) // 2 if shape[0] < 48 else 0
    assert nuclei.instances[:top].sum() == 0
    if max(shape) <= 48:  # image and labels stand in the same place
        assert np.array_equal(image[3:-4, 3:-4][nuclei.instances > 0], small.image.reshape(-1, 3))
