"""Files as other tools leave them: Cellpose's folders, TIFF's compressions, QuPath's versions, what is no label map."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.files import raster
from benchmark.data.files.checks import lumped
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames
from benchmark.runtime.errors import InputError
from tests.support.foreign_files import SHAPE, corners, feature, labels, only, same, score


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


def picture(path, colours: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), np.uint8)
    Image.fromarray(noise if colours else noise[..., 0]).save(path)


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("dicts", [True, False])
def test_of_a_folder_with_cellposes_files_its_masks_are_read(tmp_path, colours, dicts, capsys):
    """The image of the second, in which nothing was found, is no label map, though it could be read as one."""
    instances, _ = labels()
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", colours)
    Image.fromarray(instances.astype(np.uint16)).save(tmp_path / "a_cp_masks.png")
    picture(tmp_path / "a_outlines_cp_masks.png", True)
    tifffile.imwrite(tmp_path / "a_dP_cp_masks.tif", np.zeros((2, *SHAPE), np.float32))
    if dicts:
        np.save(tmp_path / "a_seg.npy", {"masks": instances}, allow_pickle=True)
    (image,) = collection(tmp_path, TypeNames()).images
    assert image.name == "a" and "*_cp_masks are read" in capsys.readouterr().err
    same(image.read(None), instances)
    if dicts:
        for path in tmp_path.glob("*_cp_masks.*"):
            path.unlink()
        (image,) = collection(tmp_path, TypeNames()).images
        same(image.read(None), instances)


def test_cellposes_subfolder_of_masks_goes_before_the_images(tmp_path):
    instances, _ = labels()
    picture(tmp_path / "a.png", False)
    (tmp_path / "masks").mkdir()
    Image.fromarray(instances.astype(np.uint16)).save(tmp_path / "masks/a_cp_masks.png")
    same(only(tmp_path), instances)


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_tiff_of_every_usual_compression(tmp_path, kind, dtype):
    instances = np.minimum(labels()[0], 200).astype(dtype)
    Image.fromarray(instances).save(tmp_path / "a.tif", compression=kind)
    found = raster.array(tmp_path / "a.tif")
    assert np.array_equal(found, instances) and found.dtype.itemsize == instances.dtype.itemsize


@pytest.fixture
def without_codecs(monkeypatch):
    """tifffile as it is where imagecodecs is not installed."""
    from tifffile import _imagecodecs
    from tifffile import tifffile as core

    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr(core, "imagecodecs", _imagecodecs)
    for codecs in (core.TIFF.DECOMPRESSORS, core.TIFF.UNPREDICTORS):
        monkeypatch.setattr(codecs, "_codecs", {1: core.identityfunc})


def test_a_tiff_that_neither_reads_is_no_corrupt_file_and_loses_no_page(tmp_path, without_codecs):
    pages = [Image.fromarray(np.full(SHAPE, k, np.uint16)) for k in (1, 2)]
    pages[0].save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"a\.tif: this kind of TIFF is not read .* compression LZW.*save it"):
        raster.array(tmp_path / "a.tif")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).convert("RGB").save(tmp_path / "b.tif", compression="jpeg")
    assert raster.array(tmp_path / "b.tif").shape == (*SHAPE, 3)


@pytest.mark.parametrize("compression", ["lzw", "jpeg2000", "png"])
def test_compressions_that_need_imagecodecs_are_read_with_it(tmp_path, compression):
    pytest.importorskip("imagecodecs", reason="imagecodecs is not installed: only its absence is tested")
    instances = labels()[0].astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", instances, compression=compression)
    assert np.array_equal(raster.array(tmp_path / "a.tif"), instances)


def test_a_compression_without_its_codec_is_named_with_what_installs_it(tmp_path, request):
    pytest.importorskip("imagecodecs", reason="imagecodecs is not installed, which writes the file")
    tifffile.imwrite(tmp_path / "a.tif", labels()[0].astype(np.uint16), compression="jpeg2000")
    request.getfixturevalue("without_codecs")
    with pytest.raises(InputError) as refused:
        raster.array(tmp_path / "a.tif")
    assert str(refused.value) == (
        f"{tmp_path / 'a.tif'}: this kind of TIFF is not read (uint16 {SHAPE}, compression JPEG2000); install its "
        "codecs (pip install 'imagecodecs', or this package's extra [codecs]), or save it uncompressed or with zlib."
    )


def test_colours_packed_as_jpeg_are_the_same_with_and_without_imagecodecs(tmp_path, request):
    """A JPEG keeps luminance and colour differences, which whoever expands it turns into RGB."""
    pytest.importorskip("imagecodecs", reason="imagecodecs is not installed, which writes the file")
    rgb = np.linspace(0, 255, 3 * SHAPE[0] * SHAPE[1]).reshape(*SHAPE, 3).astype(np.uint8)
    differences = np.asarray(Image.fromarray(rgb).convert("YCbCr"))  # tifffile writes what it is given
    tifffile.imwrite(tmp_path / "a.tif", differences, photometric="ycbcr", compression="jpeg")
    expanded = raster.array(tmp_path / "a.tif", colours=True)
    assert expanded.shape == rgb.shape and np.abs(expanded.astype(int) - rgb).mean() < 8
    request.getfixturevalue("without_codecs")
    assert np.abs(raster.array(tmp_path / "a.tif", colours=True).astype(int) - expanded).max() <= 2


def test_ome_tiff_pyramid_is_read_at_full_size_under_the_images_name(tmp_path):
    instances = labels()[0].astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(instances, subifds=1, tile=(16, 16), compression="zlib", metadata={"axes": "YX"})
        writer.write(instances[::2, ::2], subfiletype=1, tile=(16, 16), compression="zlib")
    (image,) = collection(tmp_path, TypeNames()).images
    assert image.name == "a"
    same(image.read(None), instances)


@pytest.mark.parametrize("version", ["0.2", "0.3", "0.5"])
def test_qupath_says_what_an_object_is_in_three_ways(tmp_path, version):
    instances, types = labels()
    instances[35:38, 2:6], types[35:38, 2:6] = 2, 1  # a second piece
    piece = [[2, 35], [6, 35], [6, 38], [2, 38], [2, 35]]
    found = [
        feature([[corners(labels()[0], 2)], [piece]], "Neoplastic", "MultiPolygon"),
        feature([[[8, 18], [22, 18], [22, 35], [8, 35]]], "Dead", what="cell")
        | {"nucleusGeometry": {"type": "Polygon", "coordinates": [corners(instances, 7)]}},
        feature([corners(instances, 300)], "Inflammatory"),
        feature([[[0, 0], [50, 0], [50, 40], [0, 40], [0, 0]]], "Region*", what="annotation"),
        feature([[[0, 0], [50, 0], [50, 40], [0, 40], [0, 0]]], None, what="tile"),
    ]
    for one in found:
        kind = one["properties"].pop("objectType")
        if version == "0.2":
            one["id"] = f"Path{kind.title()}Object"
        else:
            one["properties"]["objectType" if version == "0.5" else "object_type"] = kind
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": found}))
    same(only(tmp_path / "a.geojson"), instances, types)


def test_stardist_polygons_give_its_own_label_map():
    """A pixel belongs to a polygon through pixel centres when its centre is inside: none under the edge is added."""
    from benchmark.formats.outlines import stardist

    angle = 2 * np.pi * np.arange(64) / 64
    rows, columns = np.indices(SHAPE)
    coord = np.array([[20, 25]])[:, :, None] + 7.5 * np.stack([np.sin(angle), np.cos(angle)])[None]
    found = stardist({"coord": coord, "prob": [1.0]}, SHAPE, TypeNames(), "x", None).instances > 0
    distance = np.hypot(rows - 20, columns - 25)
    assert found[distance < 7.4].all() and not found[distance > 7.5].any()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.zip", zipped("1.roi", "2.roi"), "ImageJ's ROIs are not read; save the label map"),
        ("a.json", json.dumps({"images": [], "annotations": [{"image_id": 0}]}).encode(), "COCO's annotations are not"),
        ("a.json", json.dumps([{"image_id": 0, "segmentation": {}}]).encode(), "COCO's annotations are not"),
    ],
)
def test_what_is_not_read_is_said(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=said):
            only(path)


def test_details_of_stardist_as_npy_and_a_picture_with_alpha(tmp_path):
    np.save(tmp_path / "a.npy", {"coord": np.zeros((1, 2, 32)), "prob": np.ones(1)}, allow_pickle=True)
    with pytest.raises(InputError, match=r"np\.savez\('x\.npz', \*\*details\)"):
        only(tmp_path / "a.npy")
    Image.fromarray(labels()[0].astype(np.uint8)).convert("LA").save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: expected a label map \(height, width\), found shape \(40, 50, 2\)"):
        only(tmp_path / "b.png")


def test_half_floats_are_read_without_a_warning(tmp_path, recwarn):
    np.save(tmp_path / "a.npy", labels()[0].astype(np.float16))
    same(only(tmp_path / "a.npy"), labels()[0])
    assert not recwarn.list


def test_a_map_without_instances_is_doubted():
    instances, types = labels()
    assert lumped((instances > 0) * 255) == "1 id in 3 separate pieces"
    grid = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((4, 4), int))
    assert lumped(grid % 3 + 1).endswith("separate pieces") and not lumped(grid)
    assert not lumped(instances) and not lumped(instances * 0) and not lumped(types)
    split = instances.copy()
    split[24:26, 10:20] = 0  # one of three nuclei in two pieces
    assert not lumped(split)
    noise = np.random.default_rng(0).integers(0, 255, (50, 50))
    assert lumped(noise) == "most neighbouring pixels have different ids"


def test_a_binary_mask_is_scored_and_warned_of_once(tmp_path, capsys):
    for side in ("true", "pred"):
        (tmp_path / side).mkdir()
        for name in "ab":
            np.save(tmp_path / side / f"{name}.npy", labels()[0] if side == "true" else (labels()[0] > 0) * 255)
    assert score(tmp_path, tmp_path / "true", tmp_path / "pred", "--mpp", 0.25) == 0
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "pred/a.npy: 1 id in 3 separate pieces" in err and "(and 1 more such)" in err
