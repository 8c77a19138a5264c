"""Readers of foreign files: each format gives the nuclei that were written."""

import json

import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image
from skimage.measure import find_contours

from benchmark.data.files import label_files
from benchmark.data.files.polygons import paint
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames, read
from benchmark.runtime.errors import InputError
from tests.support.foreign_files import CLASSES, NAMES, SHAPE, centres, corners, feature, labels, only, same
from tests.support.shared import shared


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_label_maps_with_type_maps_beside(tmp_path, suffix):
    instances, types = labels()
    (tmp_path / "types").mkdir()
    for folder, array in ((tmp_path, instances.astype(np.uint16)), (tmp_path / "types", types)):
        path = folder / f"a{suffix}"
        if suffix == ".png":
            Image.fromarray(array).save(path)
        elif suffix == ".tif":
            tifffile.imwrite(path, array)
        else:
            np.save(path, array)
    same(only(tmp_path), instances, types)
    same(only(tmp_path / f"a{suffix}"), instances)  # a file alone has no types beside it


def test_npz_and_npy_stacks(tmp_path):
    instances, types = labels()
    stack = np.stack([instances, instances * 0, instances])
    kinds = np.stack([types, types * 0, types])
    words = {"names": np.array(["x", "y", "z"]), "tissues": np.array(["Colon", "", "Liver"])}
    np.savez_compressed(tmp_path / "a.npz", instances=stack.astype(float), types=kinds, mpp=0.5, **words)
    found = collection(tmp_path / "a.npz", NAMES)
    assert [i.name for i in found.images] == ["x", "y", "z"] and found.mpp == 0.5 and found.named
    assert [i.tissue for i in found.images] == ["Colon", "", "Liver"]
    for k in (2, 0, 1):  # in any order
        read_back = found.images[k].read(None)
        assert np.array_equal(read_back.instances, stack[k]) and np.array_equal(read_back.types, kinds[k])
    np.save(tmp_path / "conic.npy", np.stack([stack, kinds], -1))
    found = collection(tmp_path / "conic.npy", NAMES)
    assert not found.named and len(found.images) == 3
    same(found.images[2].read(None), instances, types)


def test_predictions_of_this_benchmark(tmp_path):
    instances, _ = labels()
    dense = np.searchsorted([0, 2, 7, 300], instances).astype(np.uint16)
    np.savez(tmp_path / "p.npz", instances=dense[None], types=np.uint8([1, 3, 2]), offsets=np.array([0, 3]))
    found = collection(tmp_path / "p.npz", NAMES).images[0].read(None)
    same(found, *labels())


def test_hovernet_mat_with_types_in_any_order(tmp_path):
    instances, types = labels()
    column = np.array([[2], [1], [3]])
    scipy.io.savemat(
        tmp_path / "a.mat",
        {"inst_map": instances.astype(float), "inst_type": column, "inst_uid": np.array([[300], [2], [7]])},
    )
    same(only(tmp_path / "a.mat"), instances, types)
    scipy.io.savemat(tmp_path / "b.mat", {"inst_map": instances, "inst_type": np.array([[1], [3], [2]])})
    same(only(tmp_path / "b.mat"), instances, types)
    scipy.io.savemat(tmp_path / "c.mat", {"inst_map": instances, "type_map": types.astype(float)})
    same(only(tmp_path / "c.mat"), instances, types)


def test_a_truncated_mat_is_named_by_both_readers(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"no")
    for read_it in (lambda: only(tmp_path / "a.mat"), lambda: label_files.labels(tmp_path / "a.mat", SHAPE, CLASSES)):
        with pytest.raises(InputError, match=r"a\.mat cannot be read"):
            read_it()


def test_hovernet_json(tmp_path):
    instances, types = labels()
    nuclei = {str(n): {"contour": centres(instances, k), "type": t} for n, k, t in ((1, 2, 1), (2, 7, 3), (3, 300, 2))}
    (tmp_path / "a.json").write_text(json.dumps({"mag": 40, "nuc": nuclei}))
    same(only(tmp_path / "a.json"), instances, types)


def test_qupath_geojson_with_a_hole_and_with_pieces(tmp_path):
    instances, types = labels()
    hole = [[33, 10], [38, 10], [38, 20], [33, 20], [33, 10]]
    instances[10:20, 33:38] = 0
    types[10:20, 33:38] = 0
    instances[35:38, 2:6], types[35:38, 2:6] = 2, 1  # a second piece of nucleus 2
    piece = [[2, 35], [6, 35], [6, 38], [2, 38]]
    features = [
        feature([[corners(labels()[0], 2)], [piece]], "neoplastic", "MultiPolygon"),
        feature([[[8, 18], [22, 18], [22, 35], [8, 35]]], "Dead", what="cell")
        | {"nucleusGeometry": {"type": "Polygon", "coordinates": [corners(instances, 7)]}},
        feature([[[0, 0], [50, 0], [50, 40], [0, 40]]], "Region", what="annotation"),
        feature([corners(labels()[0], 300), hole], "Inflammatory"),
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    same(only(tmp_path / "a.geojson"), instances, types)


def test_cellvit_geojson_has_a_feature_per_class(tmp_path):
    instances, types = labels()
    instances[35:38, 2:6], types[35:38, 2:6] = 9, 1
    features = [
        feature([[centres(instances, 2)], [centres(instances, 9)]], "Neoplastic", "MultiPolygon", "annotation"),
        feature([[centres(instances, 7)]], "Dead", "MultiPolygon", "annotation"),
        feature([[centres(instances, 300)]], "Inflammatory", "MultiPolygon", "annotation"),
    ]
    (tmp_path / "a.json").write_text(json.dumps(features))
    same(only(tmp_path / "a.json"), instances, types)
    smaller = only(tmp_path / "a.json", vertices="corners")
    assert np.count_nonzero(smaller.instances) < np.count_nonzero(instances)


def test_stardist_polygons_paint_the_more_probable_last(tmp_path):
    angle = 2 * np.pi * np.arange(32) / 32
    centre, radius = np.array([[20, 20], [20, 26]]), 6
    coord = np.stack([c[:, None] + radius * np.stack([np.sin(angle), np.cos(angle)]) for c in centre])
    np.savez(tmp_path / "a.npz", coord=coord, points=centre, prob=[0.9, 0.5], class_id=[1, 2])
    found = only(tmp_path / "a.npz")
    assert found.types.tolist() == [2, 1]  # ids in ascending order: the less probable was painted first
    rows, columns = np.indices(SHAPE)
    inside = (rows - 20) ** 2 + (columns - 20) ** 2 <= (radius - 1) ** 2
    assert (found.instances[inside] == 2).all() and found.instances[20, 30] == 1


def test_cellpose_dict_is_read_without_executing(tmp_path):
    instances, _ = labels()
    content = {"masks": instances.astype(np.uint16), "outlines": instances * 0, "filename": "x.png", "est_diam": 3.5}
    content |= {"flows": [np.zeros((2, 3)), [np.zeros(2)]], "ismanual": np.zeros(3, bool), "diam": np.float32(30)}
    np.save(tmp_path / "x_seg.npy", content, allow_pickle=True)
    (image,) = collection(tmp_path, NAMES).images
    assert image.name == "x"
    same(image.read(None), instances)


def test_hostile_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    np.save(tmp_path / "x_seg.npy", {"masks": Evil()}, allow_pickle=True)
    with pytest.raises(InputError, match="pickled content that is not read"):
        only(tmp_path / "x_seg.npy")
    np.savez(tmp_path / "y.npz", instances=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="pickled objects, which are never executed"):
        only(tmp_path / "y.npz")
    assert not (tmp_path / "ran").exists()


def test_even_odd_of_a_star_and_of_what_leaves_the_image():
    star = np.array([[10, 0], [16, 18], [0, 6], [20, 6], [4, 18]])  # its middle is crossed twice
    canvas = np.zeros((20, 20), int)
    assert paint(canvas, [star], 1, "corners") == canvas.sum() > 0
    assert canvas[9, 10] == 0 and canvas[4, 10] == 1 and canvas[7, 3] == 1
    half = np.zeros((20, 20), int)
    box = np.array([[-5.0, -5], [4, -5], [4, 4], [-5, 4]])
    assert paint(half, [box], 1, "corners") == 16 and half[:4, :4].all()
    assert paint(half, [box - 100], 2, "centres") == 0 and paint(half, [], 2, "corners") == 0


def test_a_far_vertex_costs_no_memory_and_changes_no_pixel():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ring = np.rint(rng.uniform(-30, 50, (rng.integers(1, 6), 2)))
        near, wide = np.zeros((20, 20), int), np.zeros((100, 100), int)
        paint(near, [ring], 1, "centres")
        paint(wide, [ring + 40], 1, "centres")
        assert np.array_equal(near, wide[40:60, 40:60])
    far = np.zeros((20, 20), int)
    assert paint(far, [np.array([[2.0, 2], [1.0e9, 2], [1.0e9, 5], [2, 5]])], 1, "centres") == 18 * 4
    assert far[2:6, 2:].all()


def test_neighbours_that_share_an_edge_share_no_pixel():
    rng = np.random.default_rng(0)
    x = rng.uniform(5, 15, 6)
    edge = np.stack([x, np.linspace(0, 20, 6)], 1)
    left, right = np.concatenate([[[0, 0]], edge, [[0, 20]]]), np.concatenate([[[20, 0]], edge, [[20, 20]]])
    one, other = np.zeros((20, 20), int), np.zeros((20, 20), int)
    assert paint(one, [left], 1, "corners") + paint(other, [right], 1, "corners") == 400
    assert not (one & other).any()


def test_outline_through_pixel_centres_gives_the_shape_back():
    rows, columns = np.indices((60, 60))
    for k, (a, b) in enumerate(((9.3, 14.2), (3.1, 20.6), (1.2, 1.4))):
        truth = ((rows - 30) / a) ** 2 + ((columns - 28) / b) ** 2 <= 1
        contour = find_contours(truth, 0.999)[0]  # through the outermost pixels' centres, almost
        canvas = np.zeros(truth.shape, int)
        paint(canvas, [np.rint(contour[:, ::-1])], k + 1, "centres")
        assert np.array_equal(canvas > 0, truth)


@pytest.mark.parametrize("name", ["typical30_clean", "dense150_noise", "nonsquare180x300", "full_cover_grid"])
def test_contours_of_opencv_give_their_instances_back(name):
    with np.load(shared(f"golden/metrics/postproc/{name}.npz"), allow_pickle=False) as case:
        instances, ids = case["cellvit40__inst"], case["cellvit40__ids"]
        pieces = np.split(case["cellvit40__contour_concat"], np.cumsum(case["cellvit40__n_contour"])[:-1])
    for k, contour in zip(ids, pieces):
        canvas = np.zeros(instances.shape, int)
        paint(canvas, [contour], 1, "centres")
        assert np.array_equal(canvas > 0, instances == k)


def test_names_of_types(tmp_path):
    path = tmp_path / "classes.toml"
    path.write_text('classes = ["A", "B"]\nmpp = 0.5\n[pred]\ntumor = "A"\nstroma = ""\n"7" = "B"\n"9" = ""\n')
    settings = read(path)
    assert settings.classes == ("A", "B") and settings.mpp == 0.5
    assert [settings.pred.id_of(w, "f") for w in ("Tumor", "b", "stroma", "", 7, 9, 0)] == [1, 2, 0, 0, 2, 0, 0]
    assert settings.true.id_of("a", "f") == 1 and settings.true.id_of(2, "f") == 2
    assert settings.pred.ids(np.array([[0, 7], [9, 7]]), "f").tolist() == [[0, 2], [0, 2]]
    with pytest.raises(InputError, match=r"f: unknown type 'tumour'; expected one of A, B"):
        settings.pred.id_of("tumour", "f")
    with pytest.raises(InputError, match=r"holds the type 1, which classes\.toml does not list"):
        settings.pred.id_of(1, "f")
    with pytest.raises(InputError, match=r"expected types 0..2 \(A, B\), found 3"):
        settings.true.id_of(3, "f")
    with pytest.raises(InputError, match="--types"):
        TypeNames().id_of("A", "f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes = [", "not readable TOML"),
        ('klasses = ["A"]', "found 'klasses'"),
        ('classes = ["A", "A"]', "distinct names"),
        ('classes = ["A"]\nmpp = -1', "micrometres"),
        ('classes = ["A"]\n[pred]\nx = "B"', "expected one of A"),
        ('classes = ["A"]\npred = 3', "table of name = class"),
    ],
)
def test_bad_classes_toml(tmp_path, text, said):
    (tmp_path / "classes.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "classes.toml")
