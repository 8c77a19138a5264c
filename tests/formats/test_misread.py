"""Arrays that would be read as something else: channels, inverted maps, fractions, two sources of types, odd words."""

import io
import warnings
import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import tifffile

from benchmark.data.files import label_files, matlab
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames
from benchmark.runtime.errors import InputError
from tests.support.foreign_files import CLASSES, NAMES, SHAPE, labels, only, same, score


@pytest.mark.parametrize("channels", [5, 6, 16])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_channels_are_no_images(tmp_path, channels, suffix):
    stack = np.repeat(labels()[0][..., None], channels, -1)
    path = tmp_path / f"a.{suffix}"
    np.save(path, stack) if suffix == "npy" else np.savez(path, instances=stack)
    with pytest.raises(
        InputError, match=rf"found shape \(40, 50, {channels}\), that of a map with {channels} channels"
    ):
        collection(path, NAMES)


@pytest.mark.parametrize("shape", [(40, 50, 17), (16, 50, 5), (5, 40, 50)])
def test_stacks_of_small_images_are_stacks(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.ones(shape, np.uint8))
    assert len(collection(tmp_path / "a.npy", NAMES).images) == shape[0]


def test_instances_and_types_one_after_the_other_are_no_two_images(tmp_path):
    instances, types = labels()
    types[types == 3] = 1
    np.save(tmp_path / "a.npy", np.stack([instances, types]))
    with pytest.raises(
        InputError, match=r"what seems to be the types of its nuclei, shape \(2, 40, 50\); save them side"
    ):
        [image.read(None) for image in collection(tmp_path / "a.npy", NAMES).images]
    for second in (instances, instances[::-1], instances * 2, instances * 0):
        np.save(tmp_path / "a.npy", np.stack([instances, second]))
        maps = [image.read(None).instances for image in collection(tmp_path / "a.npy", NAMES).images]
        assert np.array_equal(maps, [instances, second])


@pytest.mark.parametrize("read", [only, lambda path: label_files.labels(path, SHAPE, CLASSES)])
def test_a_map_in_which_white_is_zero_is_refused(tmp_path, read):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.minimum(labels()[0], 200).astype(np.uint8), photometric="miniswhite")
    with pytest.raises(InputError, match="found a TIFF in which white is zero"):
        read(path)


def npz_of_words(path, **arrays):
    instances, types = labels()
    np.savez(path, instances=np.stack([instances] * 2), types=np.stack([types] * 2), **arrays)
    return path


def test_words_in_bytes_are_read_as_text_is(tmp_path):
    words = ["é".encode(), "ü".encode("cp1252")]
    named = collection(npz_of_words(tmp_path / "a.npz", names=words, tissues=words), NAMES)
    assert [image.name for image in named.images] == ["é", "ü"] == [image.tissue for image in named.images]


@pytest.mark.parametrize("dtype", ["<U9000", "|S30000"])
def test_words_of_great_width_are_refused_by_the_header(tmp_path, dtype):
    path = npz_of_words(tmp_path / "a.npz", names=np.array(["a", "b"], dtype))
    with pytest.raises(InputError, match="expected numbers or words of at most 4096 characters, found entries of"):
        collection(path, NAMES)


def test_an_array_that_stands_twice_in_an_npz_is_refused(tmp_path):
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        warnings.simplefilter("ignore")
        for array in (labels()[0], labels()[0] * 0):
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr("instances.npy", stream.getvalue())
    with pytest.raises(InputError, match="expected each array once, found instances twice"):
        collection(tmp_path / "a.npz", NAMES)


@pytest.mark.parametrize("key", ["semantic", "inst_cls", "other_map"])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("typed", [False, True])
def test_arrays_that_may_be_types_are_said(tmp_path, capsys, key, stacked, typed):
    instances, types = labels()
    other = np.array([1, 3, 2]) if key == "inst_cls" else types
    arrays = {"instances": instances} | ({"types": types} if typed else {}) | {key: other, "class_prob": np.eye(3)}
    np.savez(tmp_path / "a.npz", **({k: v[None] for k, v in arrays.items()} if stacked else arrays))
    same(collection(tmp_path / "a.npz", NAMES).images[0].read(None), instances, types if typed else None)
    keys = f"{key} is" if typed else f"{key}, class_prob are"
    assert f"a.npz: {keys} not read; types are called types" in capsys.readouterr().err


def test_types_and_type_maps_of_one_file_have_to_agree(tmp_path):
    instances, types = labels()
    types[20:24, 10:20] = 1  # a nucleus of two types
    arrays = {"instances": instances[None], "type_maps": types[None], "offsets": [0, 3]}
    np.savez(tmp_path / "a.npz", types=[1, 3, 2], **arrays)
    same(collection(tmp_path / "a.npz", NAMES).images[0].read(None), instances, types)
    for wrong in ([1, 2, 2], [3, 3, 2]):
        np.savez(tmp_path / "a.npz", types=wrong, **arrays)
        with pytest.raises(InputError, match=r"its types \(3 nuclei\) and its type_maps \(3\) give nuclei different"):
            collection(tmp_path / "a.npz", NAMES).images[0].read(None)


def mat(path, **arrays):
    scipy.io.savemat(path, {"inst_map": labels()[0]} | arrays)
    return path


def test_sources_of_types_in_a_mat_have_to_agree(tmp_path):
    instances, types = labels()
    right, wrong = [[1], [3], [2]], [[1], [2], [2]]
    with_ids = {"class": [[2], [1], [3]], "id": [[300], [2], [7]]}
    same(only(mat(tmp_path / "a.mat", type_map=types, inst_type=right, **with_ids)), instances, types)
    for arrays in ({"type_map": types, "inst_type": wrong}, {"inst_type": wrong} | with_ids):
        first, other = (key for key in arrays if key != "id")
        path = mat(tmp_path / "a.mat", **arrays)
        sentence = f"its {first} and its {other} give 1 of 3 nuclei different types \\(the first: 7\\)"
        for read in (only, lambda path: label_files.labels(path, SHAPE, CLASSES)):
            with pytest.raises(InputError, match=sentence):
                read(path)
    mixed = types.copy()
    mixed[20:31, 10:20] = 2  # most of a nucleus, which the list calls 3
    same(only(mat(tmp_path / "a.mat", type_map=mixed, inst_type=right)), instances, mixed)
    listed = {"inst_type": [[1], [2]], "inst_uid": [[2], [300]]}  # a nucleus that the list leaves out
    same(only(mat(tmp_path / "a.mat", type_map=types, **listed)), instances, types)


@pytest.mark.parametrize("key", ["inst_map", "type_map", "inst_type"])
@pytest.mark.parametrize(
    ("version", "kind"),
    [("5", "sparse"), ("5", "struct"), ("5", "cell"), ("5", "text"), ("4", "sparse"), ("4", "text")],
)
def test_what_is_no_array_in_a_mat_is_named(tmp_path, key, version, kind):
    instances, types = labels()
    values = {"sparse": scipy.sparse.csc_matrix(types.astype(float)), "text": "Dead"}
    values |= {"struct": {"a": types}, "cell": np.array(["Dead", 1], object)}
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"inst_map": instances.astype(float)} | {key: values[kind]}, format=version)
    for read in (only, matlab.read):
        with pytest.raises(InputError, match=rf"expected {key} as a full array of real numbers, found something else"):
            read(path)


def stardist(path, **arrays):
    """Two round nuclei of 32 rays."""
    angle = 2 * np.pi * np.arange(32) / 32
    coord = np.array([[10, 10], [25, 30]])[:, :, None] + 5 * np.stack([np.sin(angle), np.cos(angle)])
    np.savez(path, **({"coord": coord, "prob": np.ones(2), "class_id": [1, 2]} | arrays))
    return path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"class_id": [1.5, 2]}, "class_id: expected integer ids, found 1.5"),
        ({"class_id": [np.nan, 2]}, "class_id: expected integer ids, found NaN"),
        ({"class_id": [-1, 2]}, "found the negative id -1"),
        ({"class_id": ["A", "B"]}, "expected class_id of numbers, found dtype <U1"),
        ({"coord": np.full((2, 2, 32), "x")}, "expected coord of numbers, found dtype <U1"),
        ({"coord": np.ones((2, 2, 32), complex)}, "expected coord of numbers, found dtype complex128"),
        ({"coord": np.full((2, 2, 32), 1e300)}, "expected coord of coordinates in pixels"),
        ({"prob": [np.nan, 1]}, "expected prob of numbers, by which outlines are ordered, found NaN"),
        ({"prob": ["a", "b"]}, "expected prob of numbers, found dtype <U1"),
    ],
)
def test_details_of_stardist_that_are_no_numbers_are_refused(tmp_path, capsys, arrays, sentence):
    np.save(tmp_path / "t.npy", labels()[0])
    path = stardist(tmp_path / "a.npz", **arrays)
    assert score(tmp_path, tmp_path / "t.npy", path, "--mpp", 0.25) == 2
    assert sentence in capsys.readouterr().err


def test_probabilities_of_classes_alone_are_said(tmp_path, capsys):
    path = stardist(tmp_path / "a.npz", class_prob=np.eye(3)[:2])
    assert only(path).types.tolist() == [1, 2] and not capsys.readouterr().err
    np.savez(path, coord=np.load(path)["coord"], class_prob=np.eye(3)[:2])
    assert only(path).types is None
    assert "a.npz: class_prob is not read; types are called class_id" in capsys.readouterr().err


def test_fractions_are_no_types_of_nuclei(tmp_path):
    np.savez(tmp_path / "a.npz", instances=labels()[0][None], types=[1, 1.5, 2], offsets=[0, 3])
    with pytest.raises(InputError, match=r"a name or a whole number of at least 0, found 1\.5\."):
        collection(tmp_path / "a.npz", TypeNames()).images[0].read(None)
    np.save(tmp_path / "a.npy", labels()[0] + 1e-7)
    with pytest.raises(InputError, match=r"expected integer ids, found 1e-07; labels"):
        only(tmp_path / "a.npy")


def test_a_dict_with_two_label_maps_is_refused(tmp_path):
    np.save(tmp_path / "a_seg.npy", {"masks": labels()[0], "inst_map": labels()[0] * 0}, allow_pickle=True)
    with pytest.raises(InputError, match=r"expected masks \(Cellpose\) or inst_map \(CellViT\), found both"):
        only(tmp_path / "a_seg.npy")
