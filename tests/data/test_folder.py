"""Anyone's own data: formats, tiling, splits by source, and what is refused."""

import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image

from benchmark.data.sources.folder import Folder
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data

TOML = 'classes = ["tumour", "lymphocyte"]\nmpp = 0.25\npatch = 32\ntissue = "Colon"\n'


def one(seed: int, height: int = 32, width: int = 32):
    """An image with its instance and type map: ids 7 and 300, types 2 and 1."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = np.zeros((height, width), np.uint16)
    labels[2:8, 2:8], labels[12:30, 10:14] = 300, 7
    return image, labels, np.where(labels == 300, 1, np.where(labels == 7, 2, 0)).astype(np.uint8)


def dataset(root, n=6, toml=TOML, shape=(32, 32), table=None):
    for name in ("images", "labels", "types"):
        (root / name).mkdir(parents=True)
    for i in range(n):
        image, labels, types = one(i, *shape)
        Image.fromarray(image).save(root / "images" / f"case {i}.png")
        Image.fromarray(labels).save(root / "labels" / f"case {i}.png")
        Image.fromarray(types).save(root / "types" / f"case {i}.png")
    (root / "dataset.toml").write_text(toml)
    if table:
        tiny_data.table(root / "images.csv", *table)
    return root


def ready(root, cache, **kwargs):
    return prepare(Folder(root), cache, progress=False, **kwargs)


def write(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".npy"])
def test_formats(tmp_path, suffix):
    root = dataset(tmp_path / "d", 3)
    for name, array in zip(("images", "labels", "types"), one(0)):
        (root / name / "case 0.png").unlink()
        path = root / name / f"case 0{suffix.lower()}"
        write(path, array)
        path.rename(path.with_suffix(suffix))
    sample = ready(root, tmp_path / "c").folds[1][0]
    assert np.array_equal(sample.image, one(0)[0]) and sample.nuclei.types.tolist() == [2, 1]
    assert np.array_equal(sample.nuclei.pixel_types(), one(0)[2])
    assert (sample.nuclei.image_id, sample.nuclei.source, sample.nuclei.tissue) == (
        "case 0",
        "case 0",
        "Colon",
    )
    assert sample.nuclei.mpp == 0.25 and sample.nuclei.typed


@pytest.mark.parametrize("key", ["type_map", "inst_type", None])
def test_mat_labels(tmp_path, key):
    root = dataset(tmp_path / "d", 3)
    _, labels, types = one(0)
    content = {"inst_map": labels.astype(np.float64)}
    if key:
        content[key] = types if key == "type_map" else np.array([[2], [1]])
    for path in [*(root / "types").iterdir(), root / "labels" / "case 0.png"]:
        path.unlink()
    (root / "types").rmdir()
    scipy.io.savemat(root / "labels" / "case 0.mat", content)
    fold = ready(root, tmp_path / "c").folds[1]
    assert fold[0].nuclei.types.tolist() == ([2, 1] if key else [0, 0])
    assert fold.meta["typed"] == [key is not None, False, False]


def test_other_sizes_are_tiled_and_padded_with_empty_white(tmp_path):
    root = dataset(tmp_path / "d", 3, shape=(40, 64))
    image, labels, types = one(9, 20, 24)
    labels, types = labels[:20, :24], types[:20, :24]
    for name, array in zip(("images", "labels", "types"), (image, labels, types)):
        Image.fromarray(array).save(root / name / "small.png")
    fold = ready(root, tmp_path / "c").folds[1]
    assert fold.meta["image_ids"][:5] == [
        "case 0-0-0",
        "case 0-0-32",
        "case 0-32-0",
        "case 0-32-32",
        "case 1-0-0",
    ]
    assert len(fold) == 13 and fold.meta["sources"][:5] == ["case 0"] * 4 + ["case 1"]
    big, tiles = one(0, 40, 64)[0], [fold[i] for i in range(4)]
    whole = np.vstack([np.hstack([t.image for t in tiles[:2]]), np.hstack([t.image for t in tiles[2:]])])
    assert np.array_equal(whole[:40], big) and (whole[40:] == 255).all()
    assert len(tiles[0].nuclei) == 2 and len(tiles[3].nuclei) == 0
    last = fold[12]
    assert last.nuclei.image_id == "small" and np.array_equal(last.image[:20, :24], image)
    assert (last.image[20:] == 255).all() and not last.nuclei.instances[20:].any()
    resumed = list(Folder(root).samples(1, 6))
    assert [s.nuclei.image_id for s in resumed] == fold.meta["image_ids"][6:]


def test_split_by_source(tmp_path):
    rows = [(f"case {i}.png", f"slide {i // 2}", "Brain" if i < 4 else "") for i in range(20)]
    root = dataset(tmp_path / "d", 20, table=(["file", "source", "tissue"], rows))
    data = ready(root, tmp_path / "c")
    sides = [set(data.subset(1, s).sources) for s in ("train", "val", "test")]
    assert [len(s) for s in sides] == [7, 1, 2] and data.splits() == [1]
    assert data.tissues == ("Brain", "Colon") and data.classes == ("tumour", "lymphocyte")
    with pytest.raises(InputError, match=r"splits \[1\], found FOLD=2"):
        ready(root, tmp_path / "c", split=2)


def test_folds_rotate(tmp_path):
    data = ready(dataset(tmp_path / "d", 8, TOML + 'folds = 4\nname = "mine"\n'), tmp_path / "c")
    assert data.splits() == [1, 2, 3, 4] and data.name == "mine"
    tests = [data.subset(k, "test").image_ids for k in data.splits()]
    assert sorted(name for side in tests for name in side) == [f"case {i}" for i in range(8)]
    assert data.subset(4, "val").image_ids == tests[0] and len(data.subset(4, "train")) == 4
    train = data.subset(4, "train")  # of two folds
    samples = [train[i] for i in range(len(train))]
    assert [s.nuclei.image_id for s in samples] == train.image_ids and train[-1].nuclei.image_id == train.image_ids[3]
    assert train.nuclei.tolist() == [len(s.nuclei) for s in samples]


@pytest.mark.parametrize(("words", "splits"), [(("train", "val", "test"), [1]), (("1", "2", "3"), [1, 2, 3])])
def test_fold_column(tmp_path, words, splits):
    rows = [(f"case {i}", words[i % 3]) for i in range(6)]
    data = ready(dataset(tmp_path / "d", table=(["file", "fold"], rows)), tmp_path / "c")
    assert data.splits() == splits
    side = "train" if splits == [1] else "test"
    assert data.subset(1, side).image_ids == ["case 0", "case 3"]
    if splits == [1]:
        assert data.subset(1, "val").image_ids == ["case 1", "case 4"]
        assert data.subset(1, "test").image_ids == ["case 2", "case 5"]


def test_without_classes(tmp_path, capsys):
    root = dataset(tmp_path / "d", 3, "classes = []\nmpp = 0.5")
    for path in (root / "types").iterdir():
        path.unlink()
    (root / "types").rmdir()
    data = prepare(Folder(root), tmp_path / "c")
    assert data.folds[1][0].image.shape == (256, 256, 3) and "untyped" not in capsys.readouterr().err


BAD = {
    "no toml": (lambda r: (r / "dataset.toml").unlink(), r"dataset\.toml' is missing"),
    "not toml": (lambda r: (r / "dataset.toml").write_text("classes = "), "not readable TOML"),
    "misspelt key": (
        lambda r: (r / "dataset.toml").write_text(TOML + "pathc = 3"),
        "found 'pathc'; correct it. Did you mean 'patch'",
    ),
    "misspelt file": (
        lambda r: (r / "dataset.toml").write_text(TOML + '[files]\nlabel = "x"'),
        "Did you mean 'labels'",
    ),
    "no mpp": (lambda r: (r / "dataset.toml").write_text('classes = ["a"]'), "expected mpp.*found nothing"),
    "odd patch": (
        lambda r: (r / "dataset.toml").write_text("classes = []\nmpp = 1\npatch = 100"),
        "multiple of 16",
    ),
    "two folds": (
        lambda r: (r / "dataset.toml").write_text(TOML + "folds = 2"),
        "folds to be at least 3, found 2",
    ),
    "taken name": (
        lambda r: (r / "dataset.toml").write_text(TOML + 'name = "conic"'),
        "plain word other than",
    ),
    "path as name": (lambda r: (r / "dataset.toml").write_text(TOML + 'name = "../x"'), "plain word"),
    "many folds": (
        lambda r: (r / "dataset.toml").write_text(TOML + "folds = 9"),
        "at least 9 sources, found 6",
    ),
    "absent folder": (
        lambda r: (r / "dataset.toml").write_text(TOML + '[files]\nimages = "x"'),
        "x' is missing",
    ),
    "no label": (lambda r: (r / "labels" / "case 1.png").unlink(), "found 5, and 'case 1' has none"),
    "no image": (lambda r: (r / "images" / "case 1.png").unlink(), "'case 1' has no image"),
    "two labels": (lambda r: np.save(r / "labels" / "case 1.npy", np.zeros((32, 32))), "one file per image"),
    "no types": (lambda r: (r / "types").rename(r / "tyqes"), "type maps are missing"),
    "other shape": (
        lambda r: Image.fromarray(np.zeros((9, 9), np.uint8)).save(r / "labels" / "case 1.png"),
        r"image's shape \(32, 32\), found \(9, 9\)",
    ),
    "coloured label": (
        lambda r: Image.new("RGB", (32, 32)).save(r / "labels" / "case 1.png"),
        r"found \(32, 32, 3\)",
    ),
    "type beyond": (
        lambda r: Image.new("L", (32, 32), 3).save(r / "types" / "case 1.png"),
        r"types 0\.\.2 .*found 3",
    ),
    "RGBA": (lambda r: Image.new("RGBA", (32, 32)).save(r / "images" / "case 1.png"), "expected RGB"),
    "broken png": (lambda r: (r / "images" / "case 1.png").write_bytes(b"\x89PNG\r\n"), "cannot be read"),
    "broken mat": (
        lambda r: [
            (r / "labels" / "case 1.png").unlink(),
            (r / "labels" / "case 1.mat").write_bytes(b"x" * 200),
        ],
        "cannot be read",
    ),
    "mat without map": (
        lambda r: [
            (r / "labels" / "case 1.png").unlink(),
            scipy.io.savemat(r / "labels" / "case 1.mat", {"a": 1}),
        ],
        "expected inst_map.*found a",
    ),
    "pickled": (
        lambda r: [
            (r / "labels" / "case 1.png").unlink(),
            np.save(r / "labels" / "case 1.npy", {"inst_map": 1}),
        ],
        "never executed",
    ),
    "short table": (
        lambda r: tiny_data.table(r / "images.csv", ["file"], [["case 1"]]),
        "each of 6 images, found 1",
    ),
    "strange column": (
        lambda r: tiny_data.table(r / "images.csv", ["file", "slide"], [["a", "b"]]),
        "found 'slide'",
    ),
    "leak": (
        lambda r: tiny_data.table(
            r / "images.csv",
            ["file", "fold", "source"],
            [(f"case {i}", i % 3 + 1, f"s{i // 2}") for i in range(6)],
        ),
        "'s0' in folds 1 and 2",
    ),
    "gap in folds": (
        lambda r: tiny_data.table(r / "images.csv", ["file", "fold"], [(f"case {i}", i + 2) for i in range(6)]),
        r"fold as 1\.\.n",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(tmp_path, case):
    root = dataset(tmp_path / "d")
    damage, message = BAD[case]
    damage(root)
    with pytest.raises(InputError, match=message):
        ready(root, tmp_path / "c")
    assert not list((tmp_path / "c").glob("*/meta.json"))
