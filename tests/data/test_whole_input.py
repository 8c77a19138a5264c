"""No reader takes a part of its input and drops the rest without a word."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.files import checks, label_files, raster
from benchmark.data.sources.conic import CoNIC
from benchmark.data.sources.pannuke_files import PanNukeFiles
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.shared import shared

RGB = np.random.default_rng(0).integers(40, 240, (24, 30, 3), np.uint8)


def png(path, depth: int, kind: int, lines: bytes, size: tuple[int, int]) -> None:
    """A PNG of any depth; Pillow writes few of them."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("kind", [2, 6])
def test_a_png_of_16_bits_per_channel_is_refused(tmp_path, kind):
    values = np.full((24, 30, 3 if kind == 2 else 4), 3000, ">u2")
    png(tmp_path / "a.png", 16, kind, b"".join(b"\0" + row.tobytes() for row in values), (30, 24))
    for read in (label_files.image, label_files.check_image):
        with pytest.raises(InputError, match=r"a\.png: expected 8 bits per channel, found a PNG of 16 bits"):
            read(tmp_path / "a.png")


def test_grey_pngs_of_every_depth_keep_their_ids(tmp_path):
    for depth in (1, 2, 4):
        ids = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**depth
        bits = (ids[..., None] >> np.arange(depth)[::-1]) & 1
        png(tmp_path / "a.png", depth, 0, b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in bits), (8, 2))
        assert np.array_equal(raster.array(tmp_path / "a.png"), ids), depth
    ids = np.arange(16, dtype=np.uint16).reshape(2, 8) * 4000
    Image.fromarray(ids).save(tmp_path / "a.png")
    assert np.array_equal(raster.array(tmp_path / "a.png"), ids)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_an_orientation_other_than_upright_is_refused(tmp_path, name):
    path = tmp_path / name
    for orientation in (6, 1):
        if name.endswith("tif"):
            tifffile.imwrite(path, RGB, extratags=[(raster.ORIENTATION, 3, 1, orientation, True)])
        else:
            exif = Image.Exif()
            exif[raster.ORIENTATION] = orientation
            Image.fromarray(RGB).save(path, exif=exif)
        if orientation == 1:
            assert label_files.image(path).shape == RGB.shape
            continue
        with pytest.raises(InputError, match="orientation tag is 6"):
            label_files.image(path)


def test_transparency_of_any_kind_is_no_rgb(tmp_path):
    path = tmp_path / "a.png"
    picture = Image.fromarray(RGB)
    for picture in (Image.fromarray(RGB), Image.fromarray(RGB).quantize(16)):
        picture.save(path)
        assert label_files.image(path).shape == RGB.shape
        key = 3 if picture.mode == "P" else tuple(RGB[0, 0].tolist())
        picture.save(path, transparency=key)
        with pytest.raises(InputError, match=r"expected RGB .* found shape \(24, 30, 4\)"):
            label_files.image(path)


def test_several_images_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[:10, :10], photometric="rgb")
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    for name in ("a.tif", "a.png"):
        for read in (label_files.image, label_files.check_image):
            with pytest.raises(InputError, match=f"{name}: expected one image, found 2"):
                read(tmp_path / name)


def test_colours_other_than_rgb_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="cielab")
    with pytest.raises(InputError, match="found colours stored as CIELAB"):
        label_files.image(tmp_path / "a.tif")


def test_packed_tiffs_keep_their_values_or_are_refused(tmp_path):
    bits = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    bits.save(tmp_path / "a.tif", compression="tiff_lzw")
    assert np.array_equal(raster.array(tmp_path / "a.tif"), np.asarray(bits))
    bits.save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={262: 0})  # white is zero
    with pytest.raises(InputError, match=r"this kind of TIFF is not read|white is zero"):  # with imagecodecs the second
        raster.array(tmp_path / "a.tif")


def labels() -> np.ndarray:
    ids = np.zeros((24, 30), np.int32)
    ids[2:8, 2:8], ids[12:20, 5:25] = 3, 7
    return ids


def test_a_label_map_with_a_channel_axis(tmp_path):
    np.save(tmp_path / "a.npy", labels()[..., None])
    np.savez(tmp_path / "b.npz", instances=labels()[..., None], types=(labels() > 0)[..., None] * 1)
    tifffile.imwrite(tmp_path / "c.tif", labels()[..., None])
    for name in ("a.npy", "b.npz", "c.tif"):
        (image,) = collection(tmp_path / name, TypeNames()).images
        assert np.array_equal(image.read(None).instances, labels()), name
    np.save(tmp_path / "a.npy", np.repeat(labels()[..., None], 3, -1))
    np.savez(tmp_path / "b.npz", instances=np.repeat(labels()[..., None], 4, -1))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(InputError, match=r"found shape \(24, 30, [34]\), that of a picture in colours"):
            collection(tmp_path / name, TypeNames())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mpp": np.array([0.25, 0.5])}, "one number for all images, found 2 different ones"),
        ({"mpp": np.array("0.25")}, "one number for all images, found <U4"),
        ({"types": np.uint8([1, 1, 1]), "offsets": np.array([1, 2, 3])}, "types and offsets disagree"),
        ({"types": np.uint8([1, 1, 1]), "offsets": np.array([0, 4, 3])}, "types and offsets disagree"),
    ],
)
def test_stacks_with_values_that_would_be_dropped(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", instances=np.stack([labels()] * 2), **arrays)
    with pytest.raises(InputError, match=message):
        collection(tmp_path / "a.npz", TypeNames())
    np.savez(tmp_path / "a.npz", instances=np.stack([labels()] * 2), mpp=np.array([0.5, 0.5]))
    assert collection(tmp_path / "a.npz", TypeNames()).mpp == 0.5


def test_a_name_twice_in_json_is_refused(tmp_path):
    nucleus = '{"contour": [[1, 1], [5, 1], [5, 5]], "type": 1}'
    (tmp_path / "a.json").write_text(f'{{"nuc": {{"1": {nucleus}, "1": {nucleus}}}}}')
    with pytest.raises(InputError, match="found '1' twice"):
        collection(tmp_path / "a.json", TypeNames()).images[0].read((8, 8))


def test_data_that_lie_twice_are_refused(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        np.save(tmp_path / parent / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
        np.save(tmp_path / parent / "labels.npy", np.zeros((3, 8, 8, 2), np.uint8))
        tiny_data.table(tmp_path / parent / "patch_info.csv", ["patch_info"], [[f"s{i}-0"] for i in range(3)])
        tiny_data.table(tmp_path / parent / "provenance_fold1.csv", ["index"], [[0]])
    with pytest.raises(InputError, match="CoNIC lies twice"):
        CoNIC(tmp_path).folds()
    with pytest.raises(InputError, match=r"provenance_fold1\.csv lies twice"):
        PanNukeFiles(tmp_path).beside(1)


@pytest.mark.parametrize(("dtype", "most"), [(np.float16, 2048), (np.float32, 2**24)])
def test_ids_that_floats_cannot_tell_apart_are_refused(dtype, most):
    assert checks.ids(np.array([[most]], dtype), "here").tolist() == [[most]]
    with pytest.raises(InputError, match=f"at most {most} in float"):
        checks.ids(np.array([[most + 2]], dtype), "here")


@pytest.mark.parametrize("name", ["one.npz", "many.npz", "a.npy"])
def test_types_under_another_name_are_said(tmp_path, capsys, name):
    arrays = {"instances": labels() if name == "one.npz" else np.stack([labels()] * 2), "nuclei_classes": np.ones(2)}
    if name == "a.npy":
        arrays = {"inst_map": labels(), "nuclei_classes": np.ones(2)}
        np.save(tmp_path / name, arrays, allow_pickle=True)
    else:
        np.savez(tmp_path / name, **arrays)
    assert collection(tmp_path / name, TypeNames()).images[0].read(None).types is None
    assert f"{name}: nuclei_classes is not read; types are called type" in capsys.readouterr().err


def test_files_of_the_reference_data():
    with pytest.raises(InputError, match="PNG of 16 bits"):
        label_files.image(shared("faults/png-16-bit-rgb/png/cam.png"))
    (image,) = collection(shared("faults/npy-channel-axis/true_hw1.npy"), TypeNames()).images
    assert image.read(None).instances.shape == (96, 96)
    with pytest.raises(InputError, match="picture in colours"):
        collection(shared("faults/npy-channel-axis/true_hw3.npy"), TypeNames())
